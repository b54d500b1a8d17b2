//! What a caller in plain text must not learn of a way on to `PostgreSQL` that is secured.
//!
//! A server that sees TLS offers a login bound to it (`SCRAM-SHA-256-PLUS`). A client that sees none
//! takes that offer for the work of somebody in between, which is what a proxy is, and hangs up. So
//! the offer is taken out; without it both agree on the same login, unbound.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The requests for TLS and for GSSAPI encryption.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
/// Longest start-up message, as the server has it.
const STARTUP_MAX: usize = 10_000;
/// Longest message that is looked at before the login.
const MESSAGE_MAX: usize = 8 * 1024;
/// What asks for a login by one of several mechanisms.
const SASL: [u8; 4] = [0, 0, 0, 10];
const BOUND: &[u8] = b"-PLUS";

/// A caller that asks for TLS goes on in plain text: the way on from here is secured.
pub(super) async fn decline_tls(client: &mut TcpStream) -> io::Result<()> {
    let mut first = [0; 8];
    while client.peek(&mut first).await? == first.len()
        && matches!(first, SSL_REQUEST | GSS_REQUEST)
    {
        client.read_exact(&mut first).await?;
        client.write_all(b"N").await?;
    }
    Ok(())
}

/// Passes on what is said up to the server's question for a login. Whatever is not understood is
/// passed on as it is, and the rest is between those two.
pub(super) async fn introduce<A, B>(near: &mut A, far: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let length = near.read_u32().await?;
    far.write_all(&length.to_be_bytes()).await?;
    let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let Some(rest) = rest.filter(|rest| *rest <= STARTUP_MAX) else { return Ok(()) };
    let mut startup = vec![0; rest];
    near.read_exact(&mut startup).await?;
    far.write_all(&startup).await?;
    far.flush().await?;
    loop {
        let kind = far.read_u8().await?;
        let length = far.read_u32().await?;
        let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let Some(rest) = rest.filter(|rest| *rest <= MESSAGE_MAX) else {
            near.write_u8(kind).await?;
            near.write_u32(length).await?;
            return Ok(());
        };
        let mut body = vec![0; rest];
        far.read_exact(&mut body).await?;
        if kind == b'R' {
            body = unbound(&body);
        }
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let message = [&[kind][..], &length.to_be_bytes(), &body].concat();
        near.write_all(&message).await?;
        // Before it asks for a login, a server may speak of versions and give notice.
        if !matches!(kind, b'v' | b'N') {
            return Ok(());
        }
    }
}

/// A question for a login, without the mechanisms that are bound to TLS.
fn unbound(body: &[u8]) -> Vec<u8> {
    let Some(list) = body.strip_prefix(&SASL) else { return body.to_vec() };
    let offered = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let kept = offered.filter(|name| !name.ends_with(BOUND));
    let names = kept.flat_map(|name| name.iter().copied().chain([0]));
    SASL.into_iter().chain(names).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_bound_to_tls_is_not_offered_to_who_sees_none() {
        let both = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        assert_eq!(unbound(both), b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let one = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
        assert_eq!(unbound(one), one);
        for other in [&b"\0\0\0\x05salt"[..], b"\0\0\0\x03", b""] {
            assert_eq!(unbound(other), other);
        }
    }

    #[tokio::test]
    async fn what_is_not_understood_is_passed_on_whole() {
        let cases: [(&[u8], &[u8]); 3] = [
            (b"\0\0\0\x08\0\x03\0\0", b"E\0\0\0\x08FATAL"),
            (b"\0\0\0\x08\0\x03\0\0", b"H\xff\xff\xff\xff more"),
            (b"\xff\xff\xff\xff", b""),
        ];
        for (asked, answered) in cases {
            let ((mut caller, mut near), (mut far, mut server)) =
                (tokio::io::duplex(1024), tokio::io::duplex(1024));
            caller.write_all(asked).await.unwrap();
            server.write_all(answered).await.unwrap();
            introduce(&mut near, &mut far).await.unwrap();
            tokio::io::copy_bidirectional(&mut near, &mut far).now_or_pending().await;
            let mut got = vec![0; asked.len()];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(got, asked);
            let mut got = vec![0; answered.len()];
            caller.read_exact(&mut got).await.unwrap();
            assert_eq!(got, answered);
        }
    }

    /// Gives work that does not end a moment.
    trait Moment: Sized {
        async fn now_or_pending(self);
    }

    impl<F: Future> Moment for F {
        async fn now_or_pending(self) {
            tokio::time::timeout(std::time::Duration::from_millis(20), self).await.ok();
        }
    }
}
