//! Decides which decimal numbers can be kept exactly.

use super::Json;

/// Most significant digits in the shortest decimal of any double.
const DIGITS_MAX: usize = 17;

/// Decimals of so few digits never collide as normal doubles, so the shortest decimal of the
/// double nearest to one is that decimal.
const DIGITS_SAFE: u64 = 1_000_000_000_000_000;

/// The powers of ten that are exact doubles.
const TENS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// A number that is not negative: `digits` × 10^`exponent`.
///
/// Invariant: normal form, so equal numbers are equal values. `digits` does not end in 0 unless
/// the number is zero, and has at most [`DIGITS_MAX`] digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: u64,
    pub(super) exponent: i64,
}

impl Decimal {
    /// Reads an unsigned number in the grammar of JSON, or `None` if it has too many digits to
    /// be the shortest decimal of any double. Linear in the text, whatever its exponent says.
    pub(super) fn read(text: &str) -> Option<Decimal> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)),
            None => (text, 0),
        };
        let mut digits = 0u64;
        let mut digits_count = 0;
        let mut zeros = 0; // read since the last other digit, and not yet part of `digits`
        let mut fraction_len = 0i64;
        let mut in_fraction = false;
        for byte in mantissa.bytes() {
            if byte == b'.' {
                in_fraction = true;
                continue;
            }
            if in_fraction {
                fraction_len += 1;
            }
            if byte != b'0' {
                digits_count += zeros + 1;
                if digits_count > DIGITS_MAX {
                    return None;
                }
                for _ in 0..zeros {
                    digits *= 10;
                }
                digits = digits * 10 + u64::from(byte - b'0');
                zeros = 0;
            } else if digits_count > 0 {
                zeros += 1;
            }
        }
        if digits == 0 {
            return Some(Decimal { digits: 0, exponent: 0 });
        }
        let zeros = i64::try_from(zeros).unwrap_or(i64::MAX);
        let exponent = exponent.saturating_sub(fraction_len).saturating_add(zeros);
        Some(Decimal { digits, exponent })
    }

    /// The shortest decimal that gives back this double, which must be finite and not negative.
    pub(super) fn shortest(float: f64) -> Decimal {
        Decimal::read(&format!("{float:e}")).expect("the shortest decimal of a double has at most 17 digits")
    }

    /// The value that gives back this number, or its opposite, exactly, if there is one.
    pub(super) fn to_json(self, negative: bool) -> Option<Json> {
        if let Some(int) = self.to_int() {
            return Some(Json::Int(if negative { -int } else { int }));
        }
        let float = self.nearest_float()?;
        let safe = self.digits < DIGITS_SAFE && float.is_normal();
        if !safe && (!float.is_finite() || Decimal::shortest(float) != self) {
            return None;
        }
        Json::number(if negative { -float } else { float })
    }

    fn to_int(self) -> Option<i64> {
        // In normal form only zero and up can be whole, and 10^16 is above `INT_MAX`.
        let exponent = u32::try_from(self.exponent).ok().filter(|exponent| *exponent < 16)?;
        let int = i64::try_from(self.digits.checked_mul(10u64.pow(exponent))?).ok()?;
        (int <= Json::INT_MAX).then_some(int)
    }

    /// The nearest double, or `None` when far outside what doubles can hold.
    fn nearest_float(self) -> Option<f64> {
        if !(-400..400).contains(&self.exponent) {
            return None;
        }
        // One operation on two exact doubles rounds once, so it is the nearest.
        let power = TENS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?);
        match power {
            Some(power) if self.digits < DIGITS_SAFE && self.exponent < 0 => Some(self.digits as f64 / power),
            Some(power) if self.digits < DIGITS_SAFE => Some(self.digits as f64 * power),
            _ => format!("{}e{}", self.digits, self.exponent).parse().ok(),
        }
    }
}

/// Reads what follows the `e`. Absurd exponents saturate, far outside what doubles can hold.
fn read_exponent(text: &str) -> i64 {
    let digits = text.trim_start_matches(['+', '-']);
    let magnitude = digits.bytes().fold(0i64, |exponent, digit| exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if text.starts_with('-') { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keep(text: &str) -> Option<Json> {
        Decimal::read(text)?.to_json(false)
    }

    #[test]
    fn keeps_numbers_a_double_gives_back() {
        for (text, float) in [
            ("0.1", 0.1),
            ("1e21", 1e21),
            ("123e45", 123e45),
            ("1.5e300", 1.5e300),
            ("1E-2", 0.01),
            ("10000000000000000", 1e16),
            ("9007199254740992", 9007199254740992.0),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", 5e-324),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
            ("0.30000000000000004", 0.1 + 0.2),
        ] {
            assert_eq!(keep(text), Some(Json::Float(float)), "{text}");
        }
    }

    #[test]
    fn keeps_whole_numbers_as_integers() {
        for (text, int) in [
            ("0", 0),
            ("0.000", 0),
            ("0e999999999999999999999999", 0),
            ("1.0", 1),
            ("1200e-2", 12),
            ("0.00012e5", 12),
            ("9007199254740991", Json::INT_MAX),
            ("9007199254740.991e3", Json::INT_MAX),
            ("9e15", 9_000_000_000_000_000),
        ] {
            assert_eq!(keep(text), Some(Json::Int(int)), "{text}");
        }
    }

    #[test]
    fn refuses_numbers_no_double_gives_back() {
        for text in [
            "1e400",
            "1e-400",
            "1e99999999999999999999999",
            "1e-99999999999999999999999",
            "3.141592653589793238462643",
            "12345678901234567890123",
            "9007199254740993",
            "9007199254740991.5",
            "1.7976931348623159e308",
            "4e-324",
            "0.1000000000000000055511151231257827",
            "333333333.33333329",
        ] {
            assert_eq!(keep(text), None, "{text}");
        }
    }

    #[test]
    fn zeros_and_exponent_may_cancel() {
        let zeros = "0".repeat(2000);
        assert_eq!(keep(&format!("15{zeros}e-2001")), Some(Json::Float(1.5)));
        assert_eq!(keep(&format!("0.{zeros}25e2000")), Some(Json::Float(0.25)));
    }

    /// What we promise, told with strings: trimmed digits and the place of the point.
    fn normal_form(text: &str) -> (String, i64) {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return (String::new(), 0);
        }
        let leading = (digits.len() - significant.len()) as i64;
        let exponent: i64 = exponent.parse().expect("a small exponent");
        (significant.trim_end_matches('0').to_owned(), whole.len() as i64 - leading + exponent)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn keeps_exactly_what_a_double_prints_back(
            text in "(0|[1-9][0-9]{0,19})(\\.[0-9]{1,18})?(e[+-]?[0-9]{1,3})?",
        ) {
            let float: f64 = text.parse().expect("a number");
            let exact = float.is_finite() && normal_form(&text) == normal_form(&format!("{float}"));
            prop_assert_eq!(keep(&text), Json::number(float).filter(|_| exact));
        }
    }
}
