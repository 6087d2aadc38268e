use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $code,)*
        }

        impl $name {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number that the P4 program uses.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The reason with this number.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name that people and the P4 program use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

reasons! {
    /// Why the switch dropped a packet; the code is the index of its `drops` counter.
    DropReason {
        /// The packet ended inside a header.
        ParseError = 1, "parse_error";
        /// EtherType IPv4, but another version in the header.
        BadIpVersion = 2, "bad_ip_version";
        /// An IPv4 length field that contradicts the header or the frame.
        BadIpLength = 3, "bad_ip_length";
        /// The IPv4 header checksum is wrong.
        BadIpChecksum = 4, "bad_ip_checksum";
        /// The IPv4 header carries options.
        IpOptions = 5, "ip_options";
        /// A fragment sent to an address of the gateway.
        Fragment = 6, "fragment";
        /// A UDP length field that contradicts the packet.
        BadUdpLength = 7, "bad_udp_length";
        /// A shim of a version that the gateway does not speak.
        BadShimVersion = 8, "bad_shim_version";
        /// A shim kind that may not be sent to this address.
        BadShimKind = 9, "bad_shim_kind";
        /// No time to live is left.
        TtlExpired = 10, "ttl_expired";
        /// The port has no role.
        NoPortRole = 11, "no_port_role";
        /// An Ethernet destination that is not the port's.
        NotForUs = 12, "not_for_us";
        /// A source address that may not come in here.
        SpoofedSource = 13, "spoofed_source";
        /// An EtherType that is neither IPv4 nor punted.
        UnsupportedEthertype = 14, "unsupported_ethertype";
        /// An address of the gateway on which nothing listens.
        NoService = 15, "no_service";
        /// No router is registered for the protocol and provider.
        NoRoute = 16, "no_route";
        /// A set without a router for this client's bucket.
        NoBucket = 17, "no_bucket";
        /// A router index without a router.
        NoRouter = 18, "no_router";
        /// A returned packet from what is not a registered router.
        UnregisteredReturner = 19, "unregistered_returner";
        /// A returned packet with a service index that the gateway does not have.
        BadServiceIndex = 20, "bad_service_index";
        /// No IPv4 route to the destination.
        NoIpv4Route = 21, "no_ipv4_route";
        /// A route to a next hop that does not exist.
        NoNexthop = 22, "no_nexthop";
        /// Larger than the next hop's MTU.
        TooBig = 23, "too_big";
        /// More packets for the controller than its meter allows.
        PuntRate = 24, "punt_rate";
        /// A malformed probe.
        BadProbe = 25, "bad_probe";
        /// A probe from what is not a gateway.
        UnknownProber = 26, "unknown_prober";
        /// A frame on a VLAN of the substrate that has no substrate header, or one of another version.
        BadSubstrate = 27, "bad_substrate";
        /// A substrate frame on a VLAN that is neither the provisioned nor the multipoint one.
        WrongVlan = 28, "wrong_vlan";
        /// No endpoint with that Ethernet address is attached at that port.
        UnknownEndpoint = 29, "unknown_endpoint";
        /// An MLI that is none of the endpoint's, or not there.
        UnknownMetalink = 30, "unknown_metalink";
        /// More than the metalink's rate.
        MetalinkRate = 31, "metalink_rate";
        /// A frame between two stations behind the same port.
        LanHairpin = 32, "lan_hairpin";
    }
}

reasons! {
    /// Why the switch sent a packet to its controller; the code is in the packet-in header and the index of `punt_meter`.
    PuntReason {
        /// A control message.
        Control = 1, "control";
        /// An ARP request or reply.
        Arp = 2, "arp";
        /// The answer to one of this gateway's probes.
        ProbeReply = 3, "probe_reply";
        /// The packet's time to live ran out here.
        TtlExpired = 4, "ttl_expired";
        /// The packet does not fit the next hop's MTU.
        TooBig = 5, "too_big";
        /// Nothing is registered for the protocol and provider.
        NoRoute = 6, "no_route";
        /// A return whose client is the gateway itself.
        Return = 7, "return";
        /// Substrate discovery: a frame with MLI 0 on an access port.
        Discovery = 8, "discovery";
        /// A frame on an endpoint's control MLI.
        MetalinkControl = 9, "metalink_control";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_contiguous_from_one_and_names_are_unique() {
        for (n, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.code() as usize, n + 1);
            assert_eq!(DropReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(DropReason::ALL.len(), 32);
        assert_eq!(DropReason::from_code(0), None);
        assert_eq!(DropReason::from_code(33), None);
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert_eq!(PuntReason::ALL.len(), 9);
        assert_eq!(PuntReason::from_code(10), None);
        assert_eq!(format!("{:>10}|", PuntReason::Arp), "       arp|");
    }
}
