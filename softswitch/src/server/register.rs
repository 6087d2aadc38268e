//! Registers: specification 1.4, section 9.7. BMv2 answers these with UNIMPLEMENTED.

use dmux_p4rt::bytestring;
use dmux_p4rt::p4::v1;
use num_bigint::BigUint;
use tonic::Code;

use super::config::ForwardingPipeline;
use super::error::Refused;
use super::read::{arrays, index};
use super::write::cells;

/// Writes one cell, or all of them when the index is unset.
pub(super) fn set_register(pipeline: &ForwardingPipeline, entry: &v1::RegisterEntry) -> Result<(), Refused> {
    let register = pipeline.binding.register(entry.register_id)?;
    let cells = cells(&register.name, register.size, entry.index.as_ref())?;
    let width = pipeline.dataplane.program().registers().get(register.ix).map_or(0, |r| r.width);
    let refuse = |code, what: String| Refused::new(code, format!("register {}: {what}", register.name));
    let value = match entry.data.as_ref().and_then(|d| d.data.as_ref()) {
        Some(v1::p4_data::Data::Bitstring(bytes)) => {
            let bytes = bytestring::check(bytes, width).map_err(|e| refuse(Code::OutOfRange, e.to_string()))?;
            BigUint::from_bytes_be(bytes)
        }
        Some(v1::p4_data::Data::Bool(b)) if width == 1 => BigUint::from(u8::from(*b)),
        Some(_) => return Err(refuse(Code::InvalidArgument, "its cells are bit strings".to_owned())),
        None => return Err(refuse(Code::InvalidArgument, "the entry has no data to write".to_owned())),
    };
    for cell in cells {
        pipeline.dataplane.set_register(register.ix, cell, &value)?;
    }
    Ok(())
}

/// The cells of one register, or of all for id 0.
pub(super) fn read_registers(
    pipeline: &ForwardingPipeline,
    filter: &v1::RegisterEntry,
    found: &mut dyn FnMut(v1::RegisterEntry),
) -> Result<(), Refused> {
    let binding = &pipeline.binding;
    for register in arrays(filter.register_id, &binding.registers, |id| binding.register(id))? {
        for cell in cells(&register.name, register.size, filter.index.as_ref())? {
            let value = pipeline.dataplane.register(register.ix, cell)?;
            let data = v1::P4Data { data: Some(v1::p4_data::Data::Bitstring(value.to_bytes_be())) };
            found(v1::RegisterEntry { register_id: register.id, index: index(cell), data: Some(data) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::ForwardingPipeline;
    use super::super::{read, write};
    use crate::pipeline::{Clock, Target};
    use dmux_p4rt::P4Info;
    use dmux_p4rt::p4::v1;
    use dmux_p4rt::p4::v1::entity::Entity;
    use std::sync::Arc;
    use tonic::Code;

    struct Still;
    impl Clock for Still {
        fn now_us(&self) -> u64 {
            0
        }
    }

    const INFO: &str = r#"
        registers { preamble { id: 0x16000001 name: "r" alias: "r" } size: 3
            type_spec { bitstring { bit { bitwidth: 140 } } } }
        value_sets { preamble { id: 0x03000001 name: "s" alias: "s" } size: 2
            match { id: 1 name: "a" bitwidth: 8 match_type: EXACT } match { id: 2 name: "b" bitwidth: 16 match_type: LPM } }
    "#;

    fn pipeline() -> ForwardingPipeline {
        let std = [["ingress_port", "9"], ["egress_spec", "9"], ["egress_port", "9"], ["_padding", "5"]];
        let std: Vec<_> =
            std.iter().map(|f| serde_json::json!([f[0], f[1].parse::<u32>().unwrap_or(1), false])).collect();
        let json = serde_json::json!({
            "header_types": [{"name": "standard_metadata", "id": 0, "fields": std},
                {"name": "h_t", "id": 1, "fields": [["a", 8, false], ["b", 16, false]]}],
            "headers": [{"name": "standard_metadata", "id": 0, "header_type": "standard_metadata", "metadata": true},
                {"name": "h", "id": 1, "header_type": "h_t", "metadata": false}],
            "parse_vsets": [{"name": "s", "id": 0, "compressed_bitwidth": 24, "max_size": 2}],
            "register_arrays": [{"name": "r", "id": 0, "size": 3, "bitwidth": 140}],
            "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": [{"name": "start", "id": 0,
                "parser_ops": [{"op": "extract", "parameters": [{"type": "regular", "value": "h"}]}],
                "transition_key": [{"type": "field", "value": ["h", "a"]}, {"type": "field", "value": ["h", "b"]}],
                "transitions": [{"type": "parse_vset", "value": "s", "mask": null, "next_state": null},
                    {"type": "default", "value": null, "mask": null, "next_state": null}]}]}],
            "deparsers": [{"name": "deparser", "id": 0, "order": ["h"]}],
            "pipelines": [{"name": "ingress", "id": 0, "init_table": null, "tables": [], "conditionals": []}],
        });
        let config = v1::ForwardingPipelineConfig {
            p4info: P4Info::from_text(INFO).ok().map(|i| i.raw().clone()),
            p4_device_config: json.to_string().into_bytes(),
            cookie: None,
        };
        ForwardingPipeline::new(config, Arc::new(Still), Target::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn modify(p: &ForwardingPipeline, entity: Entity) -> Result<(), Code> {
        let kind = v1::update::Type::Modify as i32;
        let update = v1::Update { r#type: kind, entity: Some(v1::Entity { entity: Some(entity) }) };
        write::apply(p, &[update]).remove(0).map_err(|e| e.code)
    }

    fn read_all(p: &ForwardingPipeline, entity: Entity) -> Vec<Entity> {
        let mut all = Vec::new();
        read::read(p, &v1::Entity { entity: Some(entity) }, &mut |e| all.extend(e.entity))
            .unwrap_or_else(|e| panic!("{e}"));
        all
    }

    fn cell(index: Option<i64>, bytes: &[u8]) -> Entity {
        let data = Some(v1::P4Data { data: Some(v1::p4_data::Data::Bitstring(bytes.to_vec())) });
        let index = index.map(|index| v1::Index { index });
        Entity::RegisterEntry(v1::RegisterEntry { register_id: 0x1600_0001, index, data })
    }

    #[test]
    fn a_register_is_read_as_it_was_written() {
        let p = pipeline();
        let wide: Vec<u8> = (1..=17).collect();
        assert_eq!(modify(&p, cell(None, &[7])), Ok(()));
        assert_eq!(modify(&p, cell(Some(1), &wide)), Ok(()));
        let all = read_all(&p, Entity::RegisterEntry(v1::RegisterEntry::default()));
        assert_eq!(all, [cell(Some(0), &[7]), cell(Some(1), &wide), cell(Some(2), &[7])]);
        // What does not fit changes nothing.
        assert_eq!(modify(&p, cell(Some(3), &[1])), Err(Code::OutOfRange));
        assert_eq!(modify(&p, cell(None, &[0x10; 18])), Err(Code::OutOfRange));
        assert_eq!(
            modify(&p, Entity::RegisterEntry(v1::RegisterEntry { register_id: 1, ..Default::default() })),
            Err(Code::InvalidArgument)
        );
        assert_eq!(read_all(&p, Entity::RegisterEntry(v1::RegisterEntry::default())), all);
    }

    #[test]
    fn a_value_set_is_replaced_and_read_as_it_was_written() {
        use v1::field_match::{Exact, FieldMatchType, Lpm};
        let p = pipeline();
        let member = |a: u8, b: Option<(u8, i32)>| {
            let exact = FieldMatchType::Exact(Exact { value: vec![a] });
            let mut m = vec![v1::FieldMatch { field_id: 1, field_match_type: Some(exact) }];
            m.extend(b.map(|(high, prefix_len)| {
                let lpm = FieldMatchType::Lpm(Lpm { value: vec![high, 0], prefix_len });
                v1::FieldMatch { field_id: 2, field_match_type: Some(lpm) }
            }));
            v1::ValueSetMember { r#match: m }
        };
        let set = |members| Entity::ValueSetEntry(v1::ValueSetEntry { value_set_id: 0x0300_0001, members });
        let entry = set(vec![member(1, Some((0xc0, 2))), member(2, None)]);
        assert_eq!(modify(&p, entry.clone()), Ok(()));
        let all = Entity::ValueSetEntry(v1::ValueSetEntry::default());
        assert_eq!(read_all(&p, all.clone()), std::slice::from_ref(&entry));
        assert_eq!(
            modify(&p, set(vec![member(1, None), member(2, None), member(3, None)])),
            Err(Code::ResourceExhausted)
        );
        assert_eq!(read_all(&p, all.clone()), [entry]);
        assert_eq!(modify(&p, set(vec![])), Ok(()));
        assert_eq!(read_all(&p, all), [set(vec![])]);
    }
}
