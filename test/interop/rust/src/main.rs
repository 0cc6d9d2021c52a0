// What does a stock SPIFFE client in Rust see of the broker?
// A program of its own: it carries out orders, one JSON object a line on standard input, and answers
// each on standard output, with nothing but the crate `spiffe` and rustls in between. What a stream or
// a source hears comes as an event, when it comes.
// Which answers are right is for the tests to say (../rust.test.ts).
use std::{error::Error, sync::Arc, time::Duration};

use futures_util::StreamExt;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{crypto::ring, server::WebPkiClientVerifier, RootCertStore};
use serde_json::{json, Map, Value};
use spiffe::transport::TransportError;
use spiffe::{JwtSvid, SpiffeId, WorkloadApiClient, WorkloadApiError, X509Context, X509Source, X509SourceError, X509Svid};
use tokio::io::{AsyncBufReadExt, BufReader};
use x509_parser::prelude::{FromDer, X509Certificate};

type Outcome = Result<Value, Box<dyn Error + Send + Sync>>;
const DEADLINE: Duration = Duration::from_secs(40);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", json!({ "event": "started", "code": "OK" }));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        let order: Map<String, Value> = serde_json::from_str(&line)?;
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(DEADLINE, carry_out(&order)).await.unwrap_or_else(|late| Err(late.into()));
            let (code, error, result) = shown(outcome);
            println!("{}", json!({ "id": order["id"], "code": code, "error": error, "result": result }));
        });
    }
    Ok(())
}

async fn carry_out(order: &Map<String, Value>) -> Outcome {
    let text = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (socket, audience, token, name) = (text("socket"), text("audience"), text("token"), text("source"));
    if text("do") == "source" {
        return open_source(&socket, name).await;
    }
    let client = WorkloadApiClient::connect_to(&socket).await?;
    match text("do").as_str() {
        "x509" => described(&client.fetch_x509_context().await?),
        "x509-bundles" => Ok(client.fetch_x509_bundles().await?.iter().map(|(domain, bundle)| (domain.to_string(), json!(bundle.authorities().len()))).collect()),
        "jwt" => {
            let subject = order.get("spiffeId").and_then(Value::as_str).map(SpiffeId::new).transpose()?;
            Ok(jwt(&client.fetch_jwt_svid([&audience], subject.as_ref()).await?))
        }
        "jwts" => Ok(client.fetch_all_jwt_svids([&audience], None).await?.iter().map(jwt).collect()),
        "jwt-bundles" => Ok(client.fetch_jwt_bundles().await?.iter().map(|(domain, bundle)| (domain.to_string(), json!(bundle.jwt_authorities().count()))).collect()),
        "jwt-validate" => Ok(jwt(&client.validate_jwt_token(&audience, &token).await?)),
        "jwt-verify" => Ok(jwt(&JwtSvid::parse_and_validate(&token, &client.fetch_jwt_bundles().await?, &[audience])?)),
        "watch" => {
            let mut contexts = Box::pin(client.stream_x509_contexts().await?);
            tokio::spawn(async move {
                while let Some(context) = contexts.next().await {
                    match context {
                        Ok(context) => tell("update", &name, described(&context)),
                        Err(error) => tell("lost", &name, Err(error.into())),
                    }
                }
                tell("over", &name, Ok(Value::Null));
            });
            Ok(Value::Null)
        }
        unknown => Err(format!("no such order: {unknown}").into()),
    }
}

/// Its state each time that it changes: the SVID that it hands out, or why it hands out none any more.
async fn open_source(socket: &str, name: String) -> Outcome {
    let source = X509Source::builder().endpoint(socket).build().await?;
    let first = svid(&*source.svid()?)?;
    tokio::spawn(async move {
        let mut updates = source.updated();
        while updates.changed().await.is_ok() {
            match source.svid() {
                Ok(held) => tell("update", &name, svid(&held)),
                Err(error) => tell("withdrawn", &name, Err(error.into())),
            }
        }
    });
    Ok(first)
}

/// The SVIDs, each a client's certificate that rustls accepts by the bundle of its trust domain.
fn described(context: &X509Context) -> Outcome {
    let mut all = Vec::new();
    for held in context.svids() {
        let bundle = context.bundle_set().get(held.spiffe_id().trust_domain()).ok_or("no bundle of its trust domain")?;
        let mut roots = RootCertStore::empty();
        for root in bundle.authorities() {
            roots.add(CertificateDer::from(root.as_bytes()))?;
        }
        let chain: Vec<_> = held.cert_chain().iter().map(|certificate| CertificateDer::from(certificate.as_bytes())).collect();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider())).build()?.verify_client_cert(&chain[0], &chain[1..], UnixTime::now())?;
        all.push(svid(held)?);
    }
    Ok(Value::Array(all))
}

fn svid(held: &X509Svid) -> Outcome {
    let (_, leaf) = X509Certificate::from_der(held.leaf().as_bytes())?;
    Ok(json!({ "id": held.spiffe_id().to_string(), "hint": held.hint(), "serial": leaf.raw_serial_as_string(), "certificates": held.cert_chain().len() }))
}

fn jwt(svid: &JwtSvid) -> Value {
    json!({ "id": svid.spiffe_id().to_string(), "hint": svid.hint(), "token": svid.token(), "audience": svid.audience() })
}

fn tell(event: &str, of: &str, outcome: Outcome) {
    let (code, error, result) = shown(outcome);
    println!("{}", json!({ "event": event, "of": of, "code": code, "error": error, "result": result }));
}

/// The gRPC status by its name; Local for what never came off the wire.
fn shown(outcome: Outcome) -> (String, String, Value) {
    let error = match outcome {
        Ok(result) => return ("OK".into(), String::new(), result),
        Err(error) => error,
    };
    let said = match error.downcast_ref::<X509SourceError>() {
        Some(X509SourceError::Withdrawn(reason)) => Some(reason.as_ref()),
        _ => error.downcast_ref::<WorkloadApiError>(),
    };
    let code = match said {
        Some(WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_)) => "PermissionDenied".into(),
        Some(WorkloadApiError::Transport(TransportError::Status(status))) => format!("{:?}", status.code()),
        _ => "Local".into(),
    };
    (code, error.to_string(), Value::Null)
}
