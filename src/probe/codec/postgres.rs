//! The messages of `PostgreSQL`'s protocol, version 3.0, as far as a login and one query need them.
//!
//! A driver's library was left out: it derives keys for as many rounds as a server asks for, on
//! the spot, so a server that means harm could hold up every other probe for half an hour.

/// Longest message that is read.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Columns of a row.
const COLUMNS_MAX: u16 = 64;

/// Asks to go on by TLS.
pub const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
/// Says goodbye.
pub const TERMINATE: &[u8] = &[b'X', 0, 0, 0, 4];

/// A message of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// How to log in, or that this is done.
    Authentication(Authentication<'a>),
    /// An error with its SQLSTATE, if it says one.
    Error(Option<[u8; 5]>),
    /// The columns of a row, as text.
    Row(Vec<Option<&'a [u8]>>),
    /// Ready for a query.
    Ready,
    /// Something that a server may say and that matters to nobody here.
    Other,
}

/// What a server wants for a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Authentication<'a> {
    /// Nothing more.
    Done,
    /// The password as it is.
    Cleartext,
    /// A digest of it with this salt.
    Md5([u8; 4]),
    /// One of these mechanisms, each ended by a zero byte.
    Sasl(&'a [u8]),
    /// The next step of a mechanism.
    SaslContinue(&'a [u8]),
    /// The last step of a mechanism.
    SaslFinal(&'a [u8]),
    /// What is not spoken here: Kerberos, GSS, SSPI.
    Other,
}

/// The bytes are not of this protocol, or exceed its limits here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotPostgres;

/// Reads one message from the start of what has come so far, and how many bytes it took. `None`
/// when it is not complete.
///
/// # Errors
/// When no further bytes could make it a message.
pub fn read(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, NotPostgres> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"RENSKZTDCIvA".contains(kind) {
        return Err(NotPostgres);
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    if *kind == b'E' && length.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b' ') {
        // A server that cannot even start a process says so as one did before there were lengths.
        return Ok(Some((Message::Error(None), bytes.len())));
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_large| NotPostgres)?;
    let content = length.checked_sub(4).filter(|_| length <= MESSAGE_MAX).ok_or(NotPostgres)?;
    let Some((content, _)) = rest.split_at_checked(content) else { return Ok(None) };
    let message = match kind {
        b'R' => Message::Authentication(authentication(content).ok_or(NotPostgres)?),
        b'E' => Message::Error(code(content)),
        b'D' => Message::Row(row(content).ok_or(NotPostgres)?),
        b'Z' => Message::Ready,
        _ => Message::Other,
    };
    Ok(Some((message, length + 1)))
}

fn authentication(content: &[u8]) -> Option<Authentication<'_>> {
    let (kind, rest) = content.split_first_chunk::<4>()?;
    Some(match u32::from_be_bytes(*kind) {
        0 => Authentication::Done,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5(*rest.first_chunk()?),
        10 => Authentication::Sasl(rest),
        11 => Authentication::SaslContinue(rest),
        12 => Authentication::SaslFinal(rest),
        _ => Authentication::Other,
    })
}

/// The SQLSTATE among the fields of an error.
fn code(content: &[u8]) -> Option<[u8; 5]> {
    let mut fields = content.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"))?;
    let plain = code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    <[u8; 5]>::try_from(code).ok().filter(|_| plain)
}

fn row(content: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = content.split_first_chunk::<2>()?;
    let count = Some(u16::from_be_bytes(*count)).filter(|count| *count <= COLUMNS_MAX)?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let (column, after) = if length == -1 {
            (None, after)
        } else {
            let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(text), after)
        };
        columns.push(column);
        rest = after;
    }
    rest.is_empty().then_some(columns)
}

/// Appends the first message: who we are. No part of it may hold a zero byte.
pub fn startup(parameters: &[(&str, &str)], out: &mut Vec<u8>) {
    framed(None, out, |out| {
        out.extend([0, 3, 0, 0]);
        for (name, value) in parameters {
            text(name, out);
            text(value, out);
        }
        out.push(0);
    });
}

/// Appends an answer to a wish for a password; it may not hold a zero byte.
pub fn password(password: &str, out: &mut Vec<u8>) {
    framed(Some(b'p'), out, |out| text(password, out));
}

/// Appends the first step of a mechanism.
pub fn sasl_initial(mechanism: &str, data: &str, out: &mut Vec<u8>) {
    framed(Some(b'p'), out, |out| {
        text(mechanism, out);
        out.extend(length(data.len()));
        out.extend(data.bytes());
    });
}

/// Appends a further step of a mechanism.
pub fn sasl_response(data: &str, out: &mut Vec<u8>) {
    framed(Some(b'p'), out, |out| out.extend(data.bytes()));
}

/// Appends a query.
pub fn query(sql: &str, out: &mut Vec<u8>) {
    framed(Some(b'Q'), out, |out| text(sql, out));
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes());
    out.push(0);
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Writes a kind, a length and what `fill` adds.
fn framed(kind: Option<u8>, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend(kind);
    let start = out.len();
    out.extend([0; 4]);
    fill(out);
    let size = length(out.len() - start);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        framed(Some(kind), &mut out, |out| out.extend(content));
        out
    }

    #[test]
    fn a_startup_is_as_documented() {
        let mut out = Vec::new();
        startup(&[("user", "x")], &mut out);
        assert_eq!(out, b"\0\0\0\x10\0\x03\0\0user\0x\0\0");
    }

    #[test]
    fn what_is_said_is_framed() {
        let said = |say: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            say(&mut out);
            out
        };
        assert_eq!(said(&|out| password("pw", out)), b"p\0\0\0\x07pw\0");
        assert_eq!(said(&|out| query("SELECT 1", out)), b"Q\0\0\0\x0dSELECT 1\0");
        assert_eq!(said(&|out| sasl_initial("M", "ab", out)), b"p\0\0\0\x0cM\0\0\0\0\x02ab");
        assert_eq!(said(&|out| sasl_response("ab", out)), b"p\0\0\0\x06ab");
    }

    #[test]
    fn wishes_for_a_login_are_told_apart() {
        let asked = |content: &[u8]| match read(&message(b'R', content)) {
            Ok(Some((Message::Authentication(asked), _))) => format!("{asked:?}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(b"\0\0\0\0"), "Done");
        assert_eq!(asked(b"\0\0\0\x03"), "Cleartext");
        assert_eq!(asked(b"\0\0\0\x05\x01\x02\x03\x04"), "Md5([1, 2, 3, 4])");
        assert_eq!(asked(b"\0\0\0\x07"), "Other");
        let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let wanted = Message::Authentication(Authentication::Sasl(b"SCRAM-SHA-256\0\0"));
        assert_eq!(read(&sasl), Ok(Some((wanted, sasl.len()))));
        assert_eq!(read(&message(b'R', b"\0\0")), Err(NotPostgres));
        assert_eq!(read(&message(b'R', b"\0\0\0\x05\x01")), Err(NotPostgres));
    }

    #[test]
    fn an_error_is_known_by_its_code() {
        let error = message(b'E', b"SFATAL\0VFATAL\0C57P03\0Mstarting up\0\0");
        assert_eq!(read(&error), Ok(Some((Message::Error(Some(*b"57P03")), error.len()))));
        for content in [b"SFATAL\0\0".as_slice(), b"C57\0", b"C57p03\0", b"C57P033\0", b""] {
            let error = message(b'E', content);
            assert_eq!(read(&error), Ok(Some((Message::Error(None), error.len()))));
        }
        let ancient = b"Ecould not fork new process for connection: out of memory\n\0";
        assert_eq!(read(ancient), Ok(Some((Message::Error(None), ancient.len()))));
    }

    #[test]
    fn a_row_is_taken_apart() {
        let content = b"\0\x02\0\0\0\x01t\xff\xff\xff\xff";
        let bytes = message(b'D', content);
        let wanted = Message::Row(vec![Some(b"t".as_slice()), None]);
        assert_eq!(read(&bytes), Ok(Some((wanted, bytes.len()))));
        for content in
            [b"\0\x01".as_slice(), b"\0\x01\0\0\0\x09t", b"\0\x01\xff\xff\xff\xfe", b"\0\0t"]
        {
            assert_eq!(read(&message(b'D', content)), Err(NotPostgres), "{content:?}");
        }
    }

    #[test]
    fn what_is_not_of_the_protocol_is_told_by_its_first_bytes() {
        let others: [&[u8]; 5] =
            [b"HTTP/1.1", b"-ERR", b"R\0\0\0\x03", b"S\0\x01\0\0", b"\x15\x03\x01"];
        for other in others {
            assert_eq!(read(other), Err(NotPostgres), "{}", other.escape_ascii());
        }
        assert_eq!(read(b"Z\0\0\0\x05"), Ok(None));
        assert_eq!(read(b"Z\0\0\0\x05IS"), Ok(Some((Message::Ready, 6))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_past_them(
            kind in proptest::sample::select(b"RENSKZTDCIvAx".to_vec()),
            length in prop_oneof![0_u32..64, any::<u32>()],
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![kind];
            bytes.extend(length.to_be_bytes());
            bytes.extend(rest);
            for end in 0..=bytes.len() {
                if let Ok(Some((_, used))) = read(&bytes[..end]) {
                    prop_assert!(used <= end);
                }
            }
        }
    }
}
