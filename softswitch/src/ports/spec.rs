//! Port descriptions: what `--port` takes.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::pipeline::queue::{DEFAULT_QUEUE_DEPTH, MAX_QUEUE_DEPTH, MAX_QUEUE_RATE, QueueConfig};

use super::link::{DEFAULT_QUEUE_FRAMES, LinkConfig, MAX_DELAY, MAX_QUEUE_FRAMES};
use super::{PortError, PortId};

/// The grammar in one sentence, printed with every refusal.
pub const GRAMMAR: &str = "A port is NUMBER@DEVICE[,OPTION]..., where DEVICE is an interface name, tap:NAME, udp:LOCAL>REMOTE or \
pcap:IN>OUT, \
and OPTION is delay=5ms, loss=0.1%, rate=10mbit, queue=1000, egress-rate=1000, egress-link=100mbit, egress-depth=64, seed=7 or pcap=FILE; \
for example 1@veth0,delay=5ms or 2@udp:127.0.0.1:5001>127.0.0.1:5002,loss=1%";

/// The longest interface name Linux has (`IFNAMSIZ` less the terminating zero).
const MAX_INTERFACE_NAME: usize = 15;

/// What a port is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A network interface, opened with AF_PACKET.
    Interface(String),
    /// A TAP interface, created if there is none of this name.
    Tap(String),
    /// Capture files: frames are read from `input` and written to `output`, which is replaced.
    Files {
        /// What arrives.
        input: PathBuf,
        /// What leaves.
        output: PathBuf,
    },
    /// One frame in each UDP datagram. `local` may have port 0; the port that was chosen is in the handle.
    Udp {
        /// Where frames are received.
        local: SocketAddr,
        /// Where frames are sent, and the only source they are taken from.
        remote: SocketAddr,
    },
}

/// One port: its number, what it is connected to, the link's emulated properties and an optional capture.
///
/// The text form is
///
/// ```text
/// PORT   := NUMBER "@" DEVICE { "," OPTION }
/// NUMBER := 0 to 65535, but not the drop port (v1model's is 511)
/// DEVICE := interface name
///         | "tap:" NAME                      a TAP interface, created if missing and set up
///         | "udp:" LOCAL ">" REMOTE          addresses with ports: 127.0.0.1:5001, [::1]:5001
///         | "pcap:" IN ">" OUT               capture files: what arrives, and what leaves
/// OPTION := "delay=" TIME                    us, ms or s, decimals allowed: 250us, 1.5ms, 1s
///         | "loss=" PERCENT                  0% to 100%, decimals allowed: 0.1%
///         | "rate=" RATE                     bit, kbit, mbit or gbit a second: 10mbit
///         | "queue=" FRAMES                  how many frames may wait for the rate (default 1000)
///         | "egress-rate=" NUMBER            packets a second that go from ingress to egress, of each priority
///         | "egress-link=" RATE              of a link behind the egress queues, which all priorities share
///         | "egress-depth=" PACKETS          how many of each priority may wait for these (default 64)
///         | "seed=" NUMBER                   of the loss (default: the port number), so that a run repeats
///         | "pcap=" FILE                     a capture of both directions, without a comma in its name
/// ```
///
/// Delay, loss and rate act on what the port transmits. Each option may be given once.
///
/// ```
/// use dmux_softswitch::ports::PortSpec;
/// let port: PortSpec = "1@veth0,delay=5ms,loss=0.1%,rate=10mbit".parse()?;
/// assert_eq!((port.number, port.link.rate_bits_per_second), (1, Some(10_000_000)));
/// assert_eq!(port.to_string(), "1@veth0,delay=5ms,loss=0.1%,rate=10mbit");
/// # Ok::<(), dmux_softswitch::ports::PortError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PortSpec {
    /// The port number the program sees.
    pub number: PortId,
    /// What the port is connected to.
    pub device: Device,
    /// Emulated delay, loss and rate.
    pub link: LinkConfig,
    /// Where to write what crosses the port.
    pub pcap: Option<PathBuf>,
    /// How packets for the port wait before egress; `None` if they do not.
    pub egress: Option<QueueConfig>,
}

impl FromStr for PortSpec {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        parse(text).map_err(|reason| PortError::Grammar { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<PortSpec, String> {
    let (number, rest) = text.split_once('@').ok_or("there is no \"@\" between the number and the device")?;
    let number: PortId = number.parse().map_err(|_| format!("\"{number}\" is not a port number from 0 to 65535"))?;
    let mut parts = rest.split(',');
    let device = parse_device(parts.next().unwrap_or_default())?;
    let mut link = LinkConfig { seed: u64::from(number), ..LinkConfig::default() };
    let mut pcap = None;
    let mut egress: Option<QueueConfig> = None;
    let mut seen: Vec<&str> = Vec::new();
    for option in parts {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("the option \"{option}\" has no \"=\""))?;
        if seen.contains(&name) {
            return Err(format!("the option \"{name}\" is given twice"));
        }
        seen.push(name);
        match name {
            "delay" => link.delay = parse_delay(value)?,
            "loss" => link.loss = parse_loss(value)?,
            "rate" => link.rate_bits_per_second = Some(parse_rate(value)?),
            "queue" => link.queue_frames = parse_queue(value)?,
            "egress-rate" => {
                let rate = parse_number(name, value, MAX_QUEUE_RATE)?;
                egress.get_or_insert_default().packets_per_second = Some(rate);
            }
            "egress-link" => egress.get_or_insert_default().link_bits_per_second = Some(parse_rate(value)?),
            "egress-depth" => {
                // No deeper than a `usize` counts.
                egress.get_or_insert_default().depth = parse_number(name, value, MAX_QUEUE_DEPTH as u64)? as usize;
            }
            "seed" => link.seed = value.parse().map_err(|_| format!("the seed \"{value}\" is not a whole number"))?,
            "pcap" if value.is_empty() => return Err("pcap= names no file".to_owned()),
            "pcap" => pcap = Some(PathBuf::from(value)),
            _ => return Err(format!("there is no option \"{name}\"")),
        }
    }
    if egress.is_some_and(|e| e.packets_per_second.is_none() && e.link_bits_per_second.is_none()) {
        return Err(
            "egress-depth without egress-rate or egress-link has no effect: without a rate, no packet waits".to_owned()
        );
    }
    Ok(PortSpec { number, device, link, pcap, egress })
}

fn parse_device(text: &str) -> Result<Device, String> {
    if let Some(addresses) = text.strip_prefix("udp:") {
        let (local, remote) =
            addresses.split_once('>').ok_or("a UDP port needs LOCAL>REMOTE, two addresses with ports")?;
        let address = |text: &str| -> Result<SocketAddr, String> {
            text.parse().map_err(|_| format!("\"{text}\" is not an address with a port such as 127.0.0.1:5001"))
        };
        let (local, remote) = (address(local)?, address(remote)?);
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(format!("{local} and {remote} are of different address families"));
        }
        if remote.port() == 0 {
            return Err("the remote address has port 0, to which nothing can be sent".to_owned());
        }
        return Ok(Device::Udp { local, remote });
    }
    if let Some(files) = text.strip_prefix("pcap:") {
        return match files.split_once('>') {
            Some((input, output)) if !input.is_empty() && !output.is_empty() => {
                Ok(Device::Files { input: input.into(), output: output.into() })
            }
            _ => Err("a port of capture files needs IN>OUT, two files".to_owned()),
        };
    }
    if let Some(name) = text.strip_prefix("tap:") {
        return Ok(Device::Tap(interface_name(name)?));
    }
    Ok(Device::Interface(interface_name(text)?))
}

fn interface_name(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_whitespace() || c == '/' || c == '\0' || c == '>';
    if text.is_empty() {
        return Err("there is no device's name after the \"@\"".to_owned());
    }
    if text.len() > MAX_INTERFACE_NAME || text.contains(bad) {
        return Err(format!(
            "\"{text}\" cannot be an interface name (at most {MAX_INTERFACE_NAME} characters, no spaces or slashes)"
        ));
    }
    Ok(text.to_owned())
}

/// Splits "1.5ms" into 1.5 and "ms"; the number must be finite and not negative.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok().filter(|n: &f64| n.is_finite())?, unit))
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    let nanoseconds = match number_and_unit(text) {
        Some((n, "us")) => n * 1e3,
        Some((n, "ms")) => n * 1e6,
        Some((n, "s")) => n * 1e9,
        _ => return Err(format!("the delay \"{text}\" is not a time such as 250us, 1.5ms or 1s")),
    };
    if nanoseconds > MAX_DELAY.as_nanos() as f64 {
        return Err(format!("the delay \"{text}\" is longer than {} seconds", MAX_DELAY.as_secs()));
    }
    Ok(Duration::from_nanos(nanoseconds.round() as u64))
}

fn parse_loss(text: &str) -> Result<f64, String> {
    match number_and_unit(text) {
        Some((percent, "%")) if percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(format!("the loss \"{text}\" is not a percentage from 0% to 100%, such as 0.1%")),
    }
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let bits = match number_and_unit(text) {
        Some((n, "bit")) => n,
        Some((n, "kbit")) => n * 1e3,
        Some((n, "mbit")) => n * 1e6,
        Some((n, "gbit")) => n * 1e9,
        _ => return Err(format!("the rate \"{text}\" is not a rate such as 800bit, 64kbit, 10mbit or 1gbit")),
    };
    // Above a terabit a second nothing is emulated any more.
    if !(1.0..=1e12).contains(&bits) {
        return Err(format!("the rate \"{text}\" is not between 1bit and 1000gbit a second"));
    }
    Ok(bits.round() as u64)
}

/// A number from 1 up.
fn parse_number(name: &str, text: &str, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("{name}={text} is not a number from 1 to {most}")),
    }
}

fn parse_queue(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(frames) if (1..=MAX_QUEUE_FRAMES).contains(&frames) => Ok(frames),
        _ => Err(format!("the queue \"{text}\" is not a number of frames from 1 to {MAX_QUEUE_FRAMES}")),
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.number)?;
        match &self.device {
            Device::Interface(name) => f.write_str(name)?,
            Device::Tap(name) => write!(f, "tap:{name}")?,
            Device::Files { input, output } => write!(f, "pcap:{}>{}", input.display(), output.display())?,
            Device::Udp { local, remote } => write!(f, "udp:{local}>{remote}")?,
        }
        if !self.link.delay.is_zero() {
            write!(f, ",delay={:?}", Ascii(self.link.delay))?;
        }
        if self.link.loss > 0.0 {
            // The percentage was divided by 100; rounding to a billionth takes the division's error away.
            write!(f, ",loss={}%", (self.link.loss * 1e11).round() / 1e9)?;
        }
        if let Some(rate) = self.link.rate_bits_per_second {
            write!(f, ",rate={}", Bits(rate))?;
        }
        if self.link.queue_frames != DEFAULT_QUEUE_FRAMES {
            write!(f, ",queue={}", self.link.queue_frames)?;
        }
        if let Some(egress) = self.egress {
            if let Some(rate) = egress.packets_per_second {
                write!(f, ",egress-rate={rate}")?;
            }
            if let Some(rate) = egress.link_bits_per_second {
                write!(f, ",egress-link={}", Bits(rate))?;
            }
            if egress.depth != DEFAULT_QUEUE_DEPTH {
                write!(f, ",egress-depth={}", egress.depth)?;
            }
        }
        if self.link.seed != u64::from(self.number) {
            write!(f, ",seed={}", self.link.seed)?;
        }
        if let Some(path) = &self.pcap {
            write!(f, ",pcap={}", path.display())?;
        }
        Ok(())
    }
}

/// A rate in the largest unit that [`parse_rate`] reads it in as a whole number.
struct Bits(u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            r if r % 1_000_000_000 == 0 => (r / 1_000_000_000, "gbit"),
            r if r % 1_000_000 == 0 => (r / 1_000_000, "mbit"),
            r if r % 1_000 == 0 => (r / 1_000, "kbit"),
            r => (r, "bit"),
        };
        write!(f, "{value}{unit}")
    }
}

/// A duration in the units that [`parse_delay`] reads; `Duration`'s own form uses µ and ns.
struct Ascii(Duration);

impl fmt::Debug for Ascii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        if nanoseconds.is_multiple_of(1_000_000_000) {
            write!(f, "{}s", nanoseconds / 1_000_000_000)
        } else if nanoseconds.is_multiple_of(1_000_000) {
            write!(f, "{}ms", nanoseconds / 1_000_000)
        } else {
            write!(f, "{}us", nanoseconds as f64 / 1e3)
        }
    }
}
