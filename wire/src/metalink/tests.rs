use proptest::prelude::*;

use super::*;
use crate::{CONTROL_MLI, GatewayId, MacAddr, PROVISIONED_MLI_MAX, ProtocolId, ProviderId, SHARED_MLIS};

const VIDEO: MetanetId = MetanetId { protocol: ProtocolId(41), provider: ProviderId(7) };
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn offer() -> Offer {
    Offer {
        gateway: GatewayId(3),
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        provisioned_vid: 100,
        provisioned_pcp: 5,
        multipoint_vid: Some(200),
        control_mli: CONTROL_MLI,
        mtu: 1496,
        metanets: vec![OfferedMetanet { id: VIDEO, name: "video".into(), shared_mli: Some(*SHARED_MLIS.start()) }],
        more: true,
        authenticate: true,
        cookie: vec![5; 16],
    }
}

fn connected() -> Connected {
    Connected {
        mli: 7,
        metanet: VIDEO,
        rate: 15_000_000,
        lease: Lease::Long,
        lease_ms: 60_000,
        request: 8,
        yields: true,
    }
}

/// One of each kind.
fn kinds() -> Vec<Kind> {
    let refused =
        Refused { code: RefusalCode::NoRoom, text: "less fits".into(), fits: 1_234_567, retry_after_ms: 2_000 };
    vec![
        Kind::Discover(Discover::default()),
        Kind::Discover(Discover { after: Some(VIDEO) }),
        Kind::Offer(offer()),
        Kind::Attach(Attach { body: vec![1], chain: vec![vec![2; 400], vec![3; 400]], signature: vec![4; 64] }),
        Kind::Attached(Attached { idle_after_ms: 300_000 }),
        Kind::Refused(refused),
        Kind::Connect(Connect { metanet: VIDEO, rate: 15_000_000, lease: Lease::Short, request: 8 }),
        Kind::Connected(connected()),
        Kind::Pending(Pending { retry_after_ms: 500 }),
        Kind::Renew(Renew { mli: 7 }),
        Kind::Release(Release { mli: PROVISIONED_MLI_MAX }),
        Kind::Released(Released { mli: 7 }),
        Kind::Notice(Notice { mli: 7, metanet: VIDEO, rate: 0, lease_ms: 1, yields: true }),
    ]
}

#[test]
fn worked_bytes() {
    let nonce = 0x0102_0304_0506_0708;
    let discover = Kind::Discover(Discover::default());
    let bytes = [0, 11, 0x09, 8, 7, 6, 5, 4, 3, 2, 1, 0x12, 0];
    assert_eq!(encode(nonce, &discover).unwrap(), bytes);
    let padded = [&bytes[..], &[0; 40]].concat();
    assert_eq!(decode(&padded), Ok(Decoded { nonce, kind: Ok(discover) }), "what follows the length is padding");

    let connect = Kind::Connect(Connect { metanet: VIDEO, rate: 15_000_000, lease: Lease::Short, request: 8 });
    let bytes = [
        0, 26, 0x09, 8, 7, 6, 5, 4, 3, 2, 1, 0x3a, 15, // nonce, connect of 15 bytes
        0x0a, 4, 0x08, 41, 0x10, 7, // metanet
        0x10, 0xc0, 0xc3, 0x93, 0x07, // rate
        0x18, 1, 0x20, 8, // lease, request
    ];
    assert_eq!(encode(nonce, &connect).unwrap(), bytes);
    assert_eq!(decode(&bytes), Ok(Decoded { nonce, kind: Ok(connect) }));

    let body = AttachBody { cookie: vec![0xaa, 0xbb], gateway: GatewayId(3), mac: MAC };
    assert_eq!(body.encode(), [0x0a, 2, 0xaa, 0xbb, 0x10, 3, 0x19, 9, 0, 0, 0, 0, 2, 0, 0]);
}

#[test]
fn messages_survive_the_wire() {
    for kind in kinds() {
        let bytes = encode(11, &kind).unwrap();
        assert_eq!(decode(&bytes), Ok(Decoded { nonce: 11, kind: Ok(kind) }));
    }
}

#[test]
fn a_message_that_is_cut_anywhere_is_none() {
    for kind in kinds() {
        let bytes = encode(11, &kind).unwrap();
        for length in 0..bytes.len() {
            let need = if length < LENGTH_LEN { LENGTH_LEN } else { bytes.len() };
            assert_eq!(decode(&bytes[..length]), Err(MetalinkError::Truncated { need, have: length }));
        }
    }
}

#[test]
fn the_size_is_bounded_both_ways() {
    let huge = Kind::Attach(Attach { body: vec![0; MAX_METALINK], chain: vec![], signature: vec![] });
    assert!(matches!(encode(0, &huge), Err(MetalinkError::TooLong(n)) if n > MAX_METALINK));
    let above = (MAX_METALINK + 1) as u16;
    let bytes = [&above.to_be_bytes()[..], &[0; MAX_METALINK + 1]].concat();
    assert_eq!(decode(&bytes), Err(MetalinkError::TooLong(MAX_METALINK + 1)));
}

#[test]
fn no_kind_is_no_message() {
    assert_eq!(decode(&[0, 0]), Err(MetalinkError::UnknownKind));
    assert!(matches!(decode(&[0, 1, 0xff]), Err(MetalinkError::Malformed(_))));
}

/// What a message with a value changed past all checks reads as.
fn read(raw: Raw) -> Result<Kind, ValueError> {
    let message = generated::MetalinkMessage { nonce: 5, kind: Some(raw) }.encode_to_vec();
    let decoded = decode(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).unwrap();
    assert_eq!(decoded.nonce, 5, "there is a nonce to answer with");
    decoded.kind
}

#[test]
fn each_value_out_of_range_is_told_by_name() {
    let of_offer = |change: fn(&mut generated::Offer)| {
        let mut raw = offer().to_raw();
        change(&mut raw);
        read(Raw::Offer(raw)).unwrap_err()
    };
    assert_eq!(of_offer(|o| o.gateway = 0), ValueError::Gateway(0));
    assert_eq!(of_offer(|o| o.gateway = 65_536), ValueError::Gateway(65_536));
    for mac in [0, 1 << 48 | 2, 0x0100_0000_0000] {
        assert_eq!(check::mac(mac), Err(ValueError::Mac(mac)));
    }
    assert_eq!(of_offer(|o| o.gateway_mac = 0), ValueError::Mac(0));
    assert_eq!(of_offer(|o| o.provisioned_vid = 0), ValueError::Vid(0));
    assert_eq!(of_offer(|o| o.provisioned_vid = 4095), ValueError::Vid(4095));
    assert_eq!(of_offer(|o| o.provisioned_pcp = 8), ValueError::Pcp(8));
    assert_eq!(of_offer(|o| o.multipoint_vid = 4095), ValueError::Vid(4095));
    assert_eq!(of_offer(|o| o.control_mli = 0), ValueError::Mli(0));
    assert_eq!(of_offer(|o| o.control_mli = 1 << 24), ValueError::Mli(1 << 24));
    assert_eq!(of_offer(|o| o.mtu = 0), ValueError::Mtu(0));
    assert_eq!(of_offer(|o| o.cookie = vec![0; 65]), ValueError::Cookie(65));
    assert_eq!(of_offer(|o| o.metanets[0].name = "x".repeat(65)), ValueError::Name(65));
    assert_eq!(of_offer(|o| o.metanets[0].shared_mli = CONTROL_MLI), ValueError::Mli(CONTROL_MLI));
    assert_eq!(of_offer(|o| o.metanets[0].id = None), ValueError::NoMetanet);

    let of_connect = |change: fn(&mut generated::Connect)| {
        let mut raw = Connect { metanet: VIDEO, rate: 1, lease: Lease::Short, request: 0 }.to_raw();
        change(&mut raw);
        read(Raw::Connect(raw)).unwrap_err()
    };
    let metanet = |protocol, provider| Some(generated::MetanetId { protocol, provider });
    assert_eq!(check::metanet(metanet(65_536, 1)), Err(ValueError::Protocol(65_536)));
    assert_eq!(check::metanet(metanet(0, 1)).unwrap_err().code(), RefusalCode::BadProtocol);
    assert_eq!(check::metanet(metanet(41, 0)).unwrap_err().code(), RefusalCode::BadProvider);
    assert_eq!(of_connect(|c| c.metanet = None).code(), RefusalCode::Malformed);
    assert_eq!(of_connect(|c| c.lease = 0), ValueError::Lease(0));
    assert_eq!(of_connect(|c| c.lease = 3), ValueError::Lease(3));

    for mli in [0, PROVISIONED_MLI_MAX + 1, CONTROL_MLI, u32::MAX] {
        assert_eq!(read(Raw::Renew(generated::Renew { mli })), Err(ValueError::Mli(mli)));
        assert_eq!(read(Raw::Release(generated::Release { mli })), Err(ValueError::Mli(mli)));
    }
    let raw = generated::Connected { rate: 0, ..connected().to_raw() };
    assert_eq!(read(Raw::Connected(raw)).unwrap_err().code(), RefusalCode::BadRate);
    assert!(matches!(AttachBody::decode(&[0xff]), Err(ValueError::Body(_))));
    let no_gateway = AttachBody { cookie: vec![], gateway: GatewayId(0), mac: MAC };
    assert_eq!(AttachBody::decode(&no_gateway.encode()), Err(ValueError::Gateway(0)));
}

#[test]
fn a_code_of_a_later_version_is_still_a_refusal() {
    let raw = generated::MetalinkRefused { code: 9_999, text: String::new(), fits: 0, retry_after_ms: 7 };
    let Ok(Kind::Refused(refused)) = read(Raw::Refused(raw)) else { panic!("a refusal") };
    assert_eq!((refused.code, refused.retry_after_ms), (RefusalCode::Unspecified, 7));
}

#[test]
fn what_a_metanet_adds_to_an_offer_is_known_before() {
    let length = |metanets: &[OfferedMetanet]| {
        encode(1, &Kind::Offer(Offer { metanets: metanets.to_vec(), ..offer() })).unwrap().len()
    };
    let metanet = |name: usize, shared_mli| OfferedMetanet { id: VIDEO, name: "x".repeat(name), shared_mli };
    let all = [metanet(1, None), metanet(64, Some(*SHARED_MLIS.end())), metanet(60, None)];
    for n in 0..all.len() {
        // The length of the offer itself takes one byte below 128 and two above.
        let grows = length(&all[..=n]) - length(&all[..n]);
        assert!((all[n].offer_len()..=all[n].offer_len() + 1).contains(&grows), "{n}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = AttachBody::decode(&bytes);
        let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        if let Ok(Decoded { nonce, kind: Ok(kind) }) = decode(&framed) {
            let again = encode(nonce, &kind).unwrap();
            prop_assert_eq!(decode(&again), Ok(Decoded { nonce, kind: Ok(kind) }));
        }
    }

    #[test]
    fn a_changed_byte_panics_nowhere(n in 0usize..13, at: prop::sample::Index, to: u8) {
        let mut bytes = encode(1, &kinds()[n]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(Decoded { kind: Ok(kind), .. }) = decode(&bytes) {
            prop_assert!(encode(1, &kind).is_ok());
        }
    }
}
