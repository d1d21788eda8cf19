use super::*;

fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => out.extend_from_slice(&values::NULL_FIELD),
            Some(bytes) => {
                let start = values::begin_field(&mut out);
                out.extend_from_slice(bytes);
                values::end_field(&mut out, start);
            }
        }
    }
    out
}

fn column(name: &str, kind: RowType, place: RowPlace) -> RowColumn {
    RowColumn { name: name.to_owned(), kind, place }
}

const INTEGER: RowType = RowType::Declared(ColumnType::Integer);
const TEXT: RowType = RowType::Declared(ColumnType::Text);
const JSONB: RowType = RowType::Declared(ColumnType::Jsonb);
const FIVE: Option<&[u8]> = Some(&[0, 0, 0, 5]);

/// Writes rows of these columns, each of which is one tuple.
fn written(format: RowFormat, columns: Vec<RowColumn>, tuples: &[Vec<u8>]) -> (String, RowWriter) {
    let mut writer = RowWriter::new(format, columns);
    let mut out = Vec::new();
    writer.begin(&mut out);
    for tuple in tuples {
        let followed: Vec<u8> = tuple.iter().chain(b"next").copied().collect();
        assert_eq!(writer.row(&followed, &mut out), Ok(tuple.len()));
    }
    assert_eq!(writer.rows(), tuples.len() as u64);
    (String::from_utf8(out).unwrap(), writer)
}

#[test]
fn a_row_is_an_object_with_its_data_in_it() {
    let columns = || {
        vec![
            column("n\"", INTEGER, RowPlace::Row),
            column("a", TEXT, RowPlace::Data),
            column("b", INTEGER, RowPlace::Data),
            column("extra", JSONB, RowPlace::DataMembers),
            column("k", INTEGER, RowPlace::Hidden),
        ]
    };
    let tuples = [
        tuple(&[FIVE, Some(b"x"), None, Some(b"\x01{ \"y\": [1] }"), FIVE]),
        tuple(&[None, None, FIVE, None, None]),
    ];
    let (json, writer) = written(RowFormat::Json, columns(), &tuples);
    let expected =
        r#"{"n\"":5,"data":{"a":"x","b":null,"y": [1]}},{"n\"":null,"data":{"a":null,"b":5}}"#;
    assert_eq!(json, expected);
    assert_eq!(writer.hidden(), [None]);
    let (lines, writer) = written(RowFormat::NdJson, columns(), &tuples[..1]);
    assert_eq!(lines, format!("{}\n", expected.split_once(",{").unwrap().0));
    assert_eq!(writer.hidden(), [Some("5".to_owned())]);
    let (csv, _) = written(RowFormat::Csv, columns(), &tuples);
    assert_eq!(csv, "\"n\"\"\",a,b,extra\n5,x,,\"{ \"\"y\"\": [1] }\"\n,,5,\n");
}

#[test]
fn data_may_be_members_alone_or_a_whole_document() {
    let alone = || vec![column("extra", JSONB, RowPlace::DataMembers)];
    let tuples = [tuple(&[Some(b"\x01{\"a\":1}")]), tuple(&[None]), tuple(&[Some(b"\x01{ }")])];
    let (lines, _) = written(RowFormat::NdJson, alone(), &tuples);
    assert_eq!(lines, "{\"data\":{\"a\":1}}\n{\"data\":{}}\n{\"data\":{}}\n");
    let whole = || {
        vec![
            column("n", INTEGER, RowPlace::Row),
            column("payload", RowType::Json, RowPlace::WholeData),
        ]
    };
    let sent = tuple(&[FIVE, Some(b"{\"a\":\r\n1}")]);
    let (lines, _) = written(RowFormat::NdJson, whole(), std::slice::from_ref(&sent));
    assert_eq!(lines, "{\"n\":5,\"data\":{\"a\":  1}}\n");
    let (json, _) = written(RowFormat::Json, whole(), &[sent]);
    assert_eq!(json, "{\"n\":5,\"data\":{\"a\":\r\n1}}");
}

#[test]
fn csv_tells_null_from_an_empty_text() {
    let columns = vec![column("a", TEXT, RowPlace::Row)];
    let texts: [Option<&[u8]>; 7] =
        [None, Some(b""), Some(b" x"), Some(b"x\t"), Some(b"a\"b"), Some(b"a\nb"), Some(b"a,b")];
    let tuples = texts.map(|text| tuple(&[text]));
    let (csv, _) = written(RowFormat::Csv, columns, &tuples);
    let expected = "a\n\n\"\"\n\" x\"\n\"x\t\"\n\"a\"\"b\"\n\"a\nb\"\n\"a,b\"\n";
    assert_eq!(csv, expected);
}

#[test]
fn what_is_no_row_leaves_nothing_behind() {
    for format in [RowFormat::Json, RowFormat::NdJson, RowFormat::Csv] {
        let columns = vec![column("a", TEXT, RowPlace::Row), column("b", INTEGER, RowPlace::Row)];
        let mut writer = RowWriter::new(format, columns);
        let good = tuple(&[Some(b"x"), FIVE]);
        let mut out = b"before".to_vec();
        for end in 0..good.len() {
            assert_eq!(writer.row(&good[..end], &mut out), Err(DecodeError::Truncated));
        }
        let short = writer.row(&tuple(&[None]), &mut out);
        assert_eq!(short, Err(DecodeError::FieldCount { expected: 2, found: 1 }));
        let other = writer.row(&tuple(&[None, Some(b"abc")]), &mut out);
        assert_eq!(other, Err(DecodeError::InvalidField { field: "b".to_owned() }));
        assert_eq!((&*out, writer.rows()), (&b"before"[..], 0));
    }
}

#[test]
fn a_copy_has_a_header_and_an_end() {
    let header = [SIGNATURE, &[0; 8]].concat();
    let mut copied = CopiedTuples::default();
    let first = [&header[..], b"abc"].concat();
    assert_eq!(copied.tuples(&first), Some(&b"abc"[..]));
    assert_eq!(copied.tuples(b"def"), Some(&b"def"[..]));
    assert!(!copied.is_over());
    assert_eq!(copied.tuples(&END), Some(&b""[..]));
    assert!(copied.is_over());
    assert_eq!(CopiedTuples::default().tuples(b"select 1 and something longer"), None);
    assert_eq!(CopiedTuples::default().tuples(b"short"), None);
}
