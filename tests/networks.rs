//! Networks of this machine, each as if it were a machine of its own: all on one switch, and each with an uplink as
//! slow as one likes.
//!
//! Needs root, `ip`, and `tc` where uplinks are slow.

use std::process::Command;

/// Some networks on one switch; gone when dropped.
pub(crate) struct Street {
    switch: String,
    /// What each network is called.
    pub(crate) houses: Vec<String>,
}

/// Runs `ip` and says whether it did what it was told.
pub(crate) fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|output| output.status.success())
}

impl Street {
    /// Networks with the addresses 10.77.0.1, 10.77.0.2, …; `None` without the rights to make any.
    pub(crate) fn build(name: &str, count: usize) -> Option<Self> {
        let switch = format!("tb{}{name}", std::process::id());
        let houses: Vec<String> = (0..count).map(|at| format!("{switch}-{at}")).collect();
        let street = Self { switch, houses };
        let switch = &street.switch;
        let mut is_made = ip(&format!("netns add {switch}"))
            && ip(&format!("-n {switch} link add switch type bridge"))
            && ip(&format!("-n {switch} link set switch up"));
        for (at, house) in street.houses.iter().enumerate() {
            is_made = is_made
                && ip(&format!("netns add {house}"))
                && ip(&format!("link add eth0 netns {house} type veth peer name port{at} netns {switch}"))
                && ip(&format!("-n {switch} link set port{at} master switch up"))
                && ip(&format!("-n {house} link set lo up"))
                && ip(&format!("-n {house} link set eth0 up"))
                && ip(&format!("-n {house} addr add 10.77.0.{}/24 dev eth0", at + 1));
        }
        if !is_made {
            eprintln!("skipped: networks cannot be made here; it takes root and ip");
        }
        is_made.then_some(street)
    }

    /// Lets one network send so much and no more.
    pub(crate) fn slow_down(&self, at: usize, kbit_per_s: u32) -> bool {
        let rate = format!("{kbit_per_s}kbit");
        let shaped = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "16kb", "latency", "100ms"];
        self.inside(at, shaped[0]).args(&shaped[1..]).output().is_ok_and(|output| output.status.success())
    }

    /// Runs a program in one network.
    pub(crate) fn inside(&self, at: usize, program: &str) -> Command {
        self.within(&self.houses[at], program)
    }

    /// Bytes that one network has sent, with everything that goes over a cable.
    pub(crate) fn sent_bytes(&self, at: usize) -> u64 {
        let file = format!("/sys/class/net/port{at}/statistics/rx_bytes");
        let output = self.within(&self.switch, "cat").arg(file).output();
        output.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or(0)
    }

    fn within(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, program]);
        command
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        for name in self.houses.iter().chain([&self.switch]) {
            ip(&format!("netns del {name}"));
        }
    }
}
