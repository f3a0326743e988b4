//! The bytes of frames: one frame has one encoding, and every length has a limit.

use bytes::Bytes;
use timebus_identity::{PublicKey, Signature};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{CHANGE_BYTES_MAX, Head};
use timebus_store::codec::{DecodeError, Reader, Writer};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::path::Path;

use super::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, ASKED_MAX, Ack, Auth, CHANGES_MAX, CHANNEL_MAX, Close, Code, FEATURES_MAX, FEED_HEADS_MAX, FILES_MAX,
    FRAME_BYTES_MAX, Feature, Frame, HEADS_MAX, Hello, Holding, KEYS_MAX, Lacks, NAME_BYTES_MAX, NEED_HAVE_MAX, NEED_IDS_MAX, NOTICE_FRAME_BYTES_MAX,
    NOTICES_MAX, Open, Opened, PROVIDERS_MAX, Page, Part, Provider, RECORDS_OF_FRAME_MAX, Redemption, SEAT_BYTES_MAX, SEATS_MAX, Seat,
    TEXT_BYTES_MAX, TIPS_MAX, TIPS_PER_AUTHOR_MAX, Taking, WEIGHED_MAX, Wants,
};
use crate::record::RECORD_BYTES_MAX;
use crate::sync::replica::{Cursor, Tip};

/// A field that is one of a few numbers.
macro_rules! numbered {
    ($name:ident: $($value:ident = $number:literal),*) => {
        impl $name {
            fn number(self) -> u8 {
                match self {
                    $(Self::$value => $number),*
                }
            }

            fn decode(input: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                match input.u8(field)? {
                    $($number => Ok(Self::$value),)*
                    _ => Err(DecodeError::Invalid { field }),
                }
            }
        }
    };
}

numbered!(Lacks: TipsFollow = 0, Nothing = 1, AfterCursor = 2);
numbered!(Page: More = 0, Last = 1, LacksNothing = 2);
numbered!(Part: Stream = 0, Answer = 1, AnswerEnds = 2);
numbered!(Code: Done = 0, Protocol = 1, Unsupported = 2, NotHere = 3, Busy = 4, Banned = 5, TooMuch = 6, NotFound = 7, Going = 8);
numbered!(Wants: Nothing = 0, News = 1, All = 2);
numbered!(Taking: Kept = 0, NotHere = 1, Full = 2, Refused = 3, Busy = 4);
numbered!(Redemption: Granted = 0, Invalid = 1, Later = 2, Busy = 3);

impl Frame {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        match self {
            Self::Hello(hello) => {
                out.u8(0);
                hello.encode(&mut out);
            }
            Self::Auth(auth) => {
                out.u8(1);
                auth.encode(&mut out);
            }
            Self::Open(open) => {
                out.u8(2);
                out.var(open.channel);
                out.raw(open.space.as_bytes());
                out.raw(open.timeline.as_bytes());
                out.u8(open.mode);
                open.holding.encode(&mut out);
                out.var(open.credit);
            }
            Self::Opened(opened) => {
                out.u8(3);
                out.var(opened.channel);
                opened.holding.encode(&mut out);
                out.var(opened.credit);
                out.u8(opened.lacks.number());
            }
            Self::Tips { channel, page, tips } => {
                out.u8(4);
                out.var(*channel);
                out.u8(page.number());
                list(tips, &mut out, |tip, out| {
                    out.raw(tip.author.as_bytes());
                    out.var(tip.seq);
                    out.raw(tip.id.as_bytes());
                });
            }
            Self::Need { channel, ids, have } => {
                out.u8(5);
                out.var(*channel);
                list(ids, &mut out, |id, out| out.raw(id.as_bytes()));
                list(have, &mut out, |id, out| out.raw(id.as_bytes()));
            }
            Self::Changes { channel, part, upto, changes } => {
                out.u8(6);
                out.var(*channel);
                out.u8(part.number());
                out.var(*upto);
                list(changes, &mut out, |change, out| out.bytes(change));
            }
            Self::Ack(ack) => {
                out.u8(7);
                for number in [ack.channel, ack.bytes, ack.durable, ack.upto] {
                    out.var(number);
                }
            }
            Self::Live { channel, upto } => {
                out.u8(8);
                out.var(*channel);
                out.var(*upto);
            }
            Self::Close(close) => {
                out.u8(9);
                out.var(close.channel);
                out.u8(close.code.number());
                out.var(close.retry_after_s);
                out.bytes(close.text.as_bytes());
            }
            Self::Redeem { token, device } => {
                out.u8(10);
                out.raw(token);
                out.raw(device.as_bytes());
            }
            Self::Redeemed { result, space, text } => {
                out.u8(11);
                out.u8(result.number());
                out.raw(space.as_bytes());
                out.bytes(text.as_bytes());
            }
            Self::Providers { channel, providers } => {
                out.u8(12);
                out.var(*channel);
                list(providers, &mut out, |provider, out| {
                    out.raw(provider.node.as_bytes());
                    list(&provider.addresses, out, |address, out| out.bytes(address.as_bytes()));
                });
            }
            Self::Records(records) => {
                out.u8(16);
                list(records, &mut out, |record, out| out.bytes(record));
            }
            Self::AskFiles { space, files } | Self::Files { space, files } => {
                out.u8(if matches!(self, Self::AskFiles { .. }) { 18 } else { 19 });
                out.raw(space.as_bytes());
                list(files, &mut out, |file, out| out.raw(file.as_bytes()));
            }
            Self::AskRecords(keys) => {
                out.u8(17);
                list(keys, &mut out, |key, out| out.raw(key.as_bytes()));
            }
            Self::Put { space, notices } => {
                out.u8(13);
                out.raw(space.as_bytes());
                list(notices, &mut out, |notice, out| out.bytes(notice));
            }
            Self::Took { space, results } => {
                out.u8(14);
                out.raw(space.as_bytes());
                list(results, &mut out, |(id, result), out| {
                    out.raw(id.as_bytes());
                    out.u8(result.number());
                });
            }
            Self::Feed { channel, wants, is_busy, more, bytes, heads } => {
                out.u8(20);
                out.var(*channel);
                out.u8(wants.number());
                out.flag(*is_busy);
                out.flag(*more);
                out.var(*bytes);
                list(heads, &mut out, |id, out| out.raw(id.as_bytes()));
            }
            Self::Presence { channel, path, seats } => {
                out.u8(15);
                out.var(*channel);
                out.bytes(&path.key());
                list(seats, &mut out, |seat, out| {
                    out.raw(&seat.name);
                    out.flag(seat.value.is_some());
                    if let Some(value) = &seat.value {
                        out.bytes(value);
                    }
                });
            }
            Self::Weigh { channel, authors, ids, heads } => {
                out.u8(22);
                out.var(*channel);
                list(authors, &mut out, |author, out| out.raw(author.as_bytes()));
                list(ids, &mut out, |id, out| out.raw(id.as_bytes()));
                list(heads, &mut out, |head, out| out.bytes(head));
            }
        }
        out.into_bytes().into()
    }

    /// Reads a whole frame. Changes are not copied.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::TooLarge { field: "frame", found: bytes.len() as u64, max: FRAME_BYTES_MAX as u64 });
        }
        let mut input = Reader::new(bytes);
        let input = &mut input;
        let frame = match input.u8("frame type")? {
            0 => Self::Hello(Hello::decode(input)?),
            1 => Self::Auth(Auth::decode(input)?),
            2 => Self::Open(Open {
                channel: channel(input)?,
                space: PublicKey::from_bytes(input.array("space")?),
                timeline: TimelineId(input.array("timeline")?),
                mode: input.u8("mode")?,
                holding: Holding::decode(input)?,
                credit: input.var(u64::MAX, "credit")?,
            }),
            3 => Self::Opened(Opened {
                channel: channel(input)?,
                holding: Holding::decode(input)?,
                credit: input.var(u64::MAX, "credit")?,
                lacks: Lacks::decode(input, "lacks")?,
            }),
            4 => Self::decode_tips(input)?,
            5 => Self::Need {
                channel: channel(input)?,
                ids: ids(input, 1, NEED_IDS_MAX, "needed changes")?,
                have: ids(input, 0, NEED_HAVE_MAX, "changes at hand")?,
            },
            6 => {
                let (channel, part) = (channel(input)?, Part::decode(input, "part")?);
                let upto = input.var(u64::MAX, "arrival")?;
                let count = input.count(CHANGES_MAX, "changes")?;
                if count == 0 && part != Part::AnswerEnds {
                    return Err(DecodeError::Invalid { field: "changes" });
                }
                let changes = (0..count).map(|_| Ok(bytes.slice_ref(input.bytes(CHANGE_BYTES_MAX, "change")?))).collect::<Result<_, _>>()?;
                Self::Changes { channel, part, upto, changes }
            }
            7 => Self::Ack(Ack {
                channel: channel(input)?,
                bytes: input.var(u64::MAX, "bytes")?,
                durable: input.var(u64::MAX, "arrival")?,
                upto: input.var(u64::MAX, "arrival")?,
            }),
            8 => Self::Live { channel: channel(input)?, upto: input.var(u64::MAX, "arrival")? },
            9 => Self::Close(Close {
                channel: input.var(CHANNEL_MAX, "channel")?,
                code: Code::decode(input, "code")?,
                retry_after_s: input.var(u64::from(u32::MAX), "seconds")?,
                text: input.text(TEXT_BYTES_MAX, "text")?.to_owned(),
            }),
            10 => Self::Redeem { token: input.array("token")?, device: PublicKey::from_bytes(input.array("device")?) },
            11 => Self::Redeemed {
                result: Redemption::decode(input, "result")?,
                space: PublicKey::from_bytes(input.array("space")?),
                text: input.text(TEXT_BYTES_MAX, "text")?.to_owned(),
            },
            12 => {
                let channel = channel(input)?;
                let count = input.count(PROVIDERS_MAX, "providers")?;
                let provider =
                    |input: &mut Reader<'_>| Ok(Provider { node: PublicKey::from_bytes(input.array("node")?), addresses: addresses(input)? });
                Self::Providers { channel, providers: (0..count).map(|_| provider(input)).collect::<Result<_, _>>()? }
            }
            16 => {
                let count = some(input, RECORDS_OF_FRAME_MAX, "records")?;
                let records = (0..count).map(|_| Ok(bytes.slice_ref(input.bytes(RECORD_BYTES_MAX, "record")?))).collect::<Result<_, _>>()?;
                Self::Records(records)
            }
            17 => {
                let count = some(input, ASKED_MAX, "keys")?;
                Self::AskRecords(keys(input, count)?)
            }
            number @ (18 | 19) => {
                let space = PublicKey::from_bytes(input.array("space")?);
                let count = if number == 18 { some(input, FILES_MAX, "files")? } else { input.count(FILES_MAX, "files")? };
                let mut files: Vec<BlobHash> = Vec::new();
                for _ in 0..count {
                    let file = BlobHash::from_bytes(input.array("file")?);
                    if files.last().is_some_and(|last| *last >= file) {
                        return Err(DecodeError::Order { field: "files" });
                    }
                    files.push(file);
                }
                if number == 18 { Self::AskFiles { space, files } } else { Self::Files { space, files } }
            }
            20 => {
                let (channel, wants) = (channel(input)?, Wants::decode(input, "wants")?);
                let (is_busy, more) = (input.flag("busy")?, input.flag("more heads")?);
                let bytes = input.var(u64::MAX, "bytes")?;
                Self::Feed { channel, wants, is_busy, more, bytes, heads: ids(input, 0, FEED_HEADS_MAX, "heads")? }
            }
            13 => {
                let space = PublicKey::from_bytes(input.array("space")?);
                let count = some(input, NOTICES_MAX, "notices")?;
                let notices = (0..count).map(|_| Ok(bytes.slice_ref(input.bytes(NOTICE_FRAME_BYTES_MAX, "notice")?))).collect::<Result<_, _>>()?;
                Self::Put { space, notices }
            }
            14 => {
                let space = PublicKey::from_bytes(input.array("space")?);
                let count = some(input, NOTICES_MAX, "results")?;
                let result = |input: &mut Reader<'_>| Ok((ChangeId(input.array("change")?), Taking::decode(input, "result")?));
                Self::Took { space, results: (0..count).map(|_| result(input)).collect::<Result<_, _>>()? }
            }
            15 => {
                let channel = channel(input)?;
                let path = Path::from_key(input.bytes(Path::KEY_BYTES_MAX, "path")?).ok_or(DecodeError::Invalid { field: "path" })?;
                let mut seats: Vec<Seat> = Vec::new();
                for _ in 0..input.count(SEATS_MAX, "seats")? {
                    let name = input.array("seat")?;
                    if seats.last().is_some_and(|last| last.name >= name) {
                        return Err(DecodeError::Order { field: "seats" });
                    }
                    let value = if input.flag("value")? { Some(bytes.slice_ref(input.bytes(SEAT_BYTES_MAX, "value")?)) } else { None };
                    seats.push(Seat { name, value });
                }
                Self::Presence { channel, path, seats }
            }
            22 => {
                let channel = channel(input)?;
                let count = input.count(WEIGHED_MAX, "authors")?;
                let authors = keys(input, count)?;
                let ids = ids(input, 0, WEIGHED_MAX, "changes")?;
                let count = input.count(WEIGHED_MAX, "heads")?;
                let heads = (0..count).map(|_| Ok(bytes.slice_ref(input.bytes(Head::BYTES_MAX, "head")?))).collect::<Result<Vec<_>, _>>()?;
                if authors.is_empty() && ids.is_empty() && heads.is_empty() {
                    return Err(DecodeError::Invalid { field: "heads" });
                }
                Self::Weigh { channel, authors, ids, heads }
            }
            _ => return Err(DecodeError::Invalid { field: "frame type" }),
        };
        match input.rest().len() {
            0 => Ok(frame),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    fn decode_tips(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (channel, page) = (channel(input)?, Page::decode(input, "page")?);
        let count = input.count(if page == Page::LacksNothing { 0 } else { TIPS_MAX }, "tips")?;
        let mut tips: Vec<Tip> = Vec::new();
        for _ in 0..count {
            let tip =
                Tip { author: PublicKey::from_bytes(input.array("author")?), seq: input.var(u64::MAX, "seq")?, id: ChangeId(input.array("change")?) };
            if tips.last().is_some_and(|last| *last >= tip) {
                return Err(DecodeError::Order { field: "tips" });
            }
            let of_author = tips.iter().rev().take_while(|other| other.author == tip.author).count();
            if tip.seq == 0 || of_author >= TIPS_PER_AUTHOR_MAX {
                return Err(DecodeError::Invalid { field: "tips" });
            }
            tips.push(tip);
        }
        Ok(Self::Tips { channel, page, tips })
    }
}

impl Hello {
    fn encode(&self, out: &mut Writer) {
        for number in [self.major, self.minor, self.patch] {
            out.var(number);
        }
        list(&self.features, out, |feature, out| {
            out.var(feature.id);
            out.flag(feature.required);
        });
        out.var(self.frame_bytes_max);
        out.raw(&self.nonce);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut number = || input.var(u64::MAX, "version");
        let (major, minor, patch) = (number()?, number()?, number()?);
        let mut features: Vec<Feature> = Vec::new();
        for _ in 0..input.count(FEATURES_MAX, "features")? {
            let feature = Feature { id: input.var(u64::MAX, "feature")?, required: input.flag("required")? };
            if features.last().is_some_and(|last| last.id >= feature.id) {
                return Err(DecodeError::Order { field: "features" });
            }
            features.push(feature);
        }
        Ok(Self { major, minor, patch, features, frame_bytes_max: input.var(u64::MAX, "frame limit")?, nonce: input.array("nonce")? })
    }
}

impl Auth {
    fn encode(&self, out: &mut Writer) {
        out.raw(self.space.as_bytes());
        list(&self.proofs, out, |(key, signature), out| {
            out.raw(key.as_bytes());
            out.raw(signature.as_bytes());
        });
        out.bytes(self.name.as_bytes());
        list(&self.addresses, out, |address, out| out.bytes(address.as_bytes()));
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let space = PublicKey::from_bytes(input.array("space")?);
        let mut proofs: Vec<(PublicKey, Signature)> = Vec::new();
        for _ in 0..input.count(KEYS_MAX, "keys")? {
            let key = PublicKey::from_bytes(input.array("key")?);
            if proofs.last().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::Order { field: "keys" });
            }
            proofs.push((key, Signature::from_bytes(input.array("signature")?)));
        }
        if proofs.is_empty() {
            return Err(DecodeError::Invalid { field: "keys" });
        }
        Ok(Self { space, proofs, name: input.text(NAME_BYTES_MAX, "name")?.to_owned(), addresses: addresses(input)? })
    }
}

impl Holding {
    fn encode(&self, out: &mut Writer) {
        list(&self.heads, out, |id, out| out.raw(id.as_bytes()));
        out.flag(self.more);
        out.raw(&self.incarnation);
        out.var(self.end);
        out.flag(self.cursor.is_some());
        if let Some(cursor) = &self.cursor {
            out.raw(&cursor.incarnation);
            out.var(cursor.upto);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            heads: ids(input, 0, HEADS_MAX, "heads")?,
            more: input.flag("more heads")?,
            incarnation: input.array("incarnation")?,
            end: input.var(u64::MAX, "arrival")?,
            cursor: match input.flag("cursor")? {
                true => Some(Cursor { incarnation: input.array("incarnation")?, upto: input.var(u64::MAX, "arrival")? }),
                false => None,
            },
        })
    }
}

fn list<T>(items: &[T], out: &mut Writer, item: impl Fn(&T, &mut Writer)) {
    out.var(items.len() as u64);
    items.iter().for_each(|it| item(it, out));
}

fn some(input: &mut Reader<'_>, max: usize, field: &'static str) -> Result<usize, DecodeError> {
    match input.count(max, field)? {
        0 => Err(DecodeError::Invalid { field }),
        count => Ok(count),
    }
}

fn keys(input: &mut Reader<'_>, count: usize) -> Result<Vec<PublicKey>, DecodeError> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for _ in 0..count {
        let key = PublicKey::from_bytes(input.array("key")?);
        if keys.last().is_some_and(|last| *last >= key) {
            return Err(DecodeError::Order { field: "keys" });
        }
        keys.push(key);
    }
    Ok(keys)
}

fn channel(input: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match input.var(CHANNEL_MAX, "channel")? {
        0 => Err(DecodeError::Invalid { field: "channel" }),
        channel => Ok(channel),
    }
}

fn ids(input: &mut Reader<'_>, min: usize, max: usize, field: &'static str) -> Result<Vec<ChangeId>, DecodeError> {
    let count = input.count(max, field)?;
    if count < min {
        return Err(DecodeError::Invalid { field });
    }
    let mut ids: Vec<ChangeId> = Vec::new();
    for _ in 0..count {
        let id = ChangeId(input.array(field)?);
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(DecodeError::Order { field });
        }
        ids.push(id);
    }
    Ok(ids)
}

fn addresses(input: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = input.count(ADDRESSES_MAX, "addresses")?;
    (0..count).map(|_| Ok(input.text(ADDRESS_BYTES_MAX, "address")?.to_owned())).collect()
}
