//! Values survive writing and reading; bytes of any kind are a value or an error.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn pack(value: &Value) -> Vec<u8> {
    let mut packer = Packer::new();
    packer.value(value);
    packer.into_bytes().to_vec()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-40_000i64..40_000).prop_map(Value::Int),
        (-200i64..200).prop_map(Value::Int),
        any::<i32>().prop_map(|float| Value::Float(f64::from(float) / 8.0)),
        vec(any::<u8>(), 0..400).prop_map(Value::Bytes),
        "\\PC{0,40}".prop_map(Value::Text),
        "[a-z]{250,260}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::List),
            vec(("[a-z]{0,20}", inner.clone()), 0..20).prop_map(Value::Map),
            (any::<u8>(), vec(inner, 0..16))
                .prop_map(|(tag, fields)| Value::Structure { tag, fields }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in any_value()) {
        prop_assert_eq!(decode(&pack(&value)), Ok(value));
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_an_error(bytes in vec(any::<u8>(), 0..2_000)) {
        if let Ok(value) = decode(&bytes) {
            // The same value, if perhaps in fewer bytes. `NaN` differs from itself.
            let again = decode(&pack(&value));
            prop_assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, Malformed>(value)));
        }
    }

    #[test]
    fn a_value_cut_short_is_an_error(value in any_value(), cut in any::<prop::sample::Index>()) {
        let bytes = pack(&value);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(decode(&bytes[..cut]), Err(Malformed::Short));
    }
}

/// Every form of the specification, in the bytes that it gives.
#[test]
fn forms_are_those_of_the_specification() {
    let text = |length: usize| Value::Text("x".repeat(length));
    let cases: [(Value, &[u8]); 20] = [
        (Value::Null, &[0xC0]),
        (Value::Bool(true), &[0xC3]),
        (Value::Bool(false), &[0xC2]),
        (Value::Int(42), &[0x2A]),
        (Value::Int(127), &[0x7F]),
        (Value::Int(-16), &[0xF0]),
        (Value::Int(-17), &[0xC8, 0xEF]),
        (Value::Int(-128), &[0xC8, 0x80]),
        (Value::Int(128), &[0xC9, 0x00, 0x80]),
        (Value::Int(2_000), &[0xC9, 0x07, 0xD0]),
        (Value::Int(-32_768), &[0xC9, 0x80, 0x00]),
        (Value::Int(32_768), &[0xCA, 0x00, 0x00, 0x80, 0x00]),
        (Value::Int(1 << 31), &[0xCB, 0, 0, 0, 0, 0x80, 0, 0, 0]),
        (Value::Float(1.25), &[0xC1, 0x3F, 0xF4, 0, 0, 0, 0, 0, 0]),
        (Value::Bytes(vec![1, 2, 3]), &[0xCC, 3, 1, 2, 3]),
        (Value::Text("A".to_owned()), &[0x81, 0x41]),
        (Value::List(vec![Value::Int(1)]), &[0x91, 0x01]),
        (Value::Map(vec![("one".to_owned(), Value::Int(1))]), b"\xA1\x83one\x01"),
        (Value::Structure { tag: 0x70, fields: vec![Value::Map(Vec::new())] }, &[0xB1, 0x70, 0xA0]),
        (Value::Structure { tag: 0x02, fields: Vec::new() }, &[0xB0, 0x02]),
    ];
    for (value, bytes) in cases {
        assert_eq!(pack(&value), bytes, "{value:?}");
        assert_eq!(decode(bytes), Ok(value));
    }
    assert_eq!(pack(&text(15))[..1], [0x8F]);
    assert_eq!(pack(&text(16))[..2], [0xD0, 16]);
    assert_eq!(pack(&text(256))[..3], [0xD1, 1, 0]);
    assert_eq!(pack(&text(65_536))[..5], [0xD2, 0, 1, 0, 0]);
    assert_eq!(pack(&Value::List(vec![Value::Null; 16]))[..2], [0xD4, 16]);
}

#[test]
fn nesting_ends() {
    let nested = |levels: usize, marker: &[u8]| [marker.repeat(levels), vec![0xC0]].concat();
    for marker in [[0x91].as_slice(), &[0xB1, 0x70], &[0xA1, 0x80], &[0xD4, 0x01]] {
        assert!(decode(&nested(DEPTH_MAX, marker)).is_ok());
        assert_eq!(decode(&nested(DEPTH_MAX + 1, marker)), Err(Malformed::Deep));
        assert_eq!(decode(&nested(50_000, marker)), Err(Malformed::Deep));
    }
}

#[test]
fn a_claimed_length_reserves_nothing() {
    for marker in [0xCE, 0xD2, 0xD6, 0xDA] {
        let found = decode(&[marker, 0xFF, 0xFF, 0xFF, 0xFF, 0x00]);
        assert!(matches!(found, Err(Malformed::Short | Malformed::Many)), "{found:?}");
    }
}

#[test]
fn values_end() {
    let list = |items: u16| {
        let mut bytes = vec![0xD5];
        bytes.extend(items.to_be_bytes());
        bytes.resize(usize::from(items) + 3, 0xC0);
        bytes
    };
    let most = u16::try_from(VALUES_MAX - 1).unwrap();
    assert!(decode(&list(most)).is_ok());
    assert_eq!(decode(&list(most + 1)), Err(Malformed::Many));
}

#[test]
fn what_is_no_value_is_an_error() {
    assert_eq!(decode(&[]), Err(Malformed::Short));
    assert_eq!(decode(&[0xC0, 0xC0]), Err(Malformed::Excess));
    assert_eq!(decode(&[0xA1, 0x01, 0x01]), Err(Malformed::Text));
    assert_eq!(decode(&[0x82, 0xC3, 0x28]), Err(Malformed::Text));
    for marker in [0xC4, 0xC7, 0xCF, 0xD3, 0xD7, 0xDB, 0xDC, 0xDF, 0xE0, 0xEF] {
        assert_eq!(decode(&[marker, 0, 0, 0, 0]), Err(Malformed::Marker), "{marker:#x}");
    }
}
