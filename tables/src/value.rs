//! Values of fields: numbers of a width, and what they mean.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::Ipv4Addr;

use dmux_wire::{GatewayId, MLI_MAX, MacAddr, ProtocolId, ProviderId, PuntReason, ServiceIndex};

/// The type of a field: as many bits as [`Value::BITS`], some patterns of which may have no meaning.
pub trait Value: Copy + Ord + Hash + Debug + Display {
    /// Width.
    const BITS: u32;

    /// As a number below 2^BITS.
    fn to_bits(self) -> u128;

    /// The value of a number, if it has one.
    fn from_bits(bits: u128) -> Option<Self>;
}

macro_rules! integers {
    ($($int:ident),*) => {$(
        impl Value for $int {
            const BITS: u32 = $int::BITS;

            fn to_bits(self) -> u128 {
                self.into()
            }

            fn from_bits(bits: u128) -> Option<Self> {
                bits.try_into().ok()
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, u128);

/// A number of its own kind, for fields that others refer to.
macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($int:ident)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        crate::value::wrapper!($name($int));

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}
pub(crate) use newtype;

/// [`Value`] for a type that wraps another in a public field.
macro_rules! wrapper {
    ($name:ident($int:ty)) => {
        impl crate::Value for $name {
            const BITS: u32 = <$int as crate::Value>::BITS;

            fn to_bits(self) -> u128 {
                crate::Value::to_bits(self.0)
            }

            fn from_bits(bits: u128) -> Option<Self> {
                crate::Value::from_bits(bits).map(Self)
            }
        }
    };
}
pub(crate) use wrapper;

wrapper!(ProtocolId(u16));
wrapper!(ProviderId(u32));
wrapper!(ServiceIndex(u16));
wrapper!(GatewayId(u16));

newtype! {
    /// An access link of the switch: the ports that are one LAN.
    AccessLinkIndex(u16)
}

newtype! {
    /// A multicast group of the switch: the ports that a frame is copied to. 0 is none.
    MulticastGroup(u16)
}

/// A number of a width that no integer type has.
macro_rules! narrow {
    ($(#[$doc:meta])* $name:ident($int:ident), $bits:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// The largest.
            pub const MAX: $int = $max;

            /// The one with this number, if it is not too large.
            pub const fn new(n: $int) -> Option<Self> {
                if n <= Self::MAX { Some(Self(n)) } else { None }
            }

            /// Its number.
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Display::fmt(&self.0, f)
            }
        }

        impl Value for $name {
            const BITS: u32 = $bits;

            fn to_bits(self) -> u128 {
                self.0.into()
            }

            fn from_bits(bits: u128) -> Option<Self> {
                bits.try_into().ok().and_then(Self::new)
            }
        }
    };
}

narrow! {
    /// A metalink identifier (DESIGN §3.4); 0 is discovery's.
    Mli(u32), 24, MLI_MAX
}
narrow! {
    /// An 802.1Q VLAN identifier; 0 stands for untagged frames.
    VlanId(u16), 12, 4095
}
narrow! {
    /// A priority of 802.1Q (PCP), or an egress queue: 7 is served first.
    Priority8(u8), 3, 7
}
narrow! {
    /// A port of the switch: 9 bits, as v1model has them. BMv2 takes the largest for "drop".
    PortId(u16), 9, 511
}

impl Mli {
    /// On which each endpoint and its gateway speak of metalinks.
    pub const CONTROL: Self = Self(dmux_wire::CONTROL_MLI);
}

impl PortId {
    /// A port that is known when the code is written; a number that 9 bits do not hold does not compile.
    pub const fn of<const PORT: u16>() -> Self {
        const { assert!(PORT <= Self::MAX, "a port has 9 bits") }
        Self(PORT)
    }
}

impl Value for bool {
    const BITS: u32 = 1;

    fn to_bits(self) -> u128 {
        self.into()
    }

    fn from_bits(bits: u128) -> Option<Self> {
        match bits {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Value for Ipv4Addr {
    const BITS: u32 = 32;

    fn to_bits(self) -> u128 {
        u32::from(self).into()
    }

    fn from_bits(bits: u128) -> Option<Self> {
        u32::try_from(bits).ok().map(Self::from)
    }
}

impl Value for MacAddr {
    const BITS: u32 = 48;

    fn to_bits(self) -> u128 {
        self.to_u64().into()
    }

    fn from_bits(bits: u128) -> Option<Self> {
        let bits = u64::try_from(bits).ok()?;
        (bits >> 48 == 0).then(|| Self::from_u64(bits))
    }
}

impl Value for PuntReason {
    const BITS: u32 = 8;

    fn to_bits(self) -> u128 {
        self.code().into()
    }

    fn from_bits(bits: u128) -> Option<Self> {
        Self::from_code(bits.try_into().ok()?)
    }
}

/// What a port is for: `ROLE_…` in p4src/include/constants.p4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PortRole {
    /// To other networks: clients, IPvN routers and other gateways are behind it.
    Wan = 1,
    /// To the controller.
    Cpu = 2,
    /// To an access LAN.
    Access = 3,
}

impl Display for PortRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wan => "WAN",
            Self::Cpu => "CPU",
            Self::Access => "access",
        })
    }
}

impl Value for PortRole {
    const BITS: u32 = 8;

    fn to_bits(self) -> u128 {
        self as u128
    }

    fn from_bits(bits: u128) -> Option<Self> {
        match bits {
            1 => Some(Self::Wan),
            2 => Some(Self::Cpu),
            3 => Some(Self::Access),
            _ => None,
        }
    }
}

/// What becomes of an endpoint's frame that is out of profile; it is counted and reported in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OutOfProfile {
    /// It is forwarded all the same.
    ReportOnly = 0,
    /// It is dropped.
    Drop = 1,
}

impl Display for OutOfProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReportOnly => "report-only",
            Self::Drop => "drop",
        })
    }
}

impl Value for OutOfProfile {
    const BITS: u32 = 8;

    fn to_bits(self) -> u128 {
        self as u128
    }

    fn from_bits(bits: u128) -> Option<Self> {
        match bits {
            0 => Some(Self::ReportOnly),
            1 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// What the switch does with a frame of its controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Submit {
    /// Sends it out of a port as it is.
    OutOfPort = 0,
    /// Routes it by its destination.
    Routed = 1,
    /// Treats it as if it had come from a WAN port.
    AsReceived = 2,
}

impl Display for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OutOfPort => "out of port",
            Self::Routed => "routed",
            Self::AsReceived => "as received",
        })
    }
}

impl Value for Submit {
    const BITS: u32 = 8;

    fn to_bits(self) -> u128 {
        self as u128
    }

    fn from_bits(bits: u128) -> Option<Self> {
        match bits {
            0 => Some(Self::OutOfPort),
            1 => Some(Self::Routed),
            2 => Some(Self::AsReceived),
            _ => None,
        }
    }
}

/// A time of a switch's own clock in µs: 48 bits, so it wraps after nine years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchTime(u64);

impl SwitchTime {
    /// The lower 48 bits of `micros`.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros & ((1 << 48) - 1))
    }

    /// In µs.
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl Display for SwitchTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µs", self.0)
    }
}

impl Value for SwitchTime {
    const BITS: u32 = 48;

    fn to_bits(self) -> u128 {
        self.0.into()
    }

    fn from_bits(bits: u128) -> Option<Self> {
        (bits >> 48 == 0).then_some(Self(bits as u64))
    }
}
