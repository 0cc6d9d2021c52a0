"""What does a stock SPIFFE client in Python see of the broker?

A program of its own: it carries out orders, one JSON object a line on standard input, and answers
each on standard output, with nothing but py-spiffe and cryptography in between. What a stream hears
comes as an event, when it comes.
Which answers are right is for the tests to say (../python.test.ts).
"""

import json
import sys
import threading

import grpc
from spiffe import JwtSvid, SpiffeId, WorkloadApiClient, X509Source

deadline = 40.0
output = threading.Lock()
kept = []


def say(**answer):
    with output:
        print(json.dumps(answer), flush=True)


def code_of(error):
    """The gRPC status that py-spiffe wrapped; LOCAL for what never came off the wire."""
    while error is not None:
        if isinstance(error, grpc.Call):
            return error.code().name
        error = error.__cause__
    return "LOCAL"


def describe(svid):
    return {"id": str(svid.spiffe_id), "serial": format(svid.leaf.serial_number, "x"), "certificates": len(svid.cert_chain)}


def described(context):
    """The SVIDs, each signed by what its chain and the bundle of its trust domain hold."""
    for svid in context.x509_svids:
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        *signed, last = svid.cert_chain
        for certificate, issuer in zip(signed, svid.cert_chain[1:]):
            certificate.verify_directly_issued_by(issuer)
        roots = [root for root in bundle.x509_authorities if root.subject == last.issuer]
        last.verify_directly_issued_by(roots[0])
    return [describe(svid) for svid in context.x509_svids]


def jwt(svid):
    return {"id": str(svid.spiffe_id), "token": svid.token, "audience": sorted(svid.audience)}


def x509(client, order):
    return described(client.fetch_x509_context())


def x509_bundles(client, order):
    return {str(b.trust_domain): len(b.x509_authorities) for b in client.fetch_x509_bundles().bundles}


def fetch_jwt(client, order):
    subject = SpiffeId(order["spiffeId"]) if "spiffeId" in order else None
    return jwt(client.fetch_jwt_svid({order["audience"]}, subject))


def fetch_jwts(client, order):
    return [jwt(svid) for svid in client.fetch_jwt_svids({order["audience"]})]


def jwt_bundles(client, order):
    return {str(b.trust_domain): len(b.jwt_authorities) for b in client.fetch_jwt_bundles().bundles}


def jwt_validate(client, order):
    return jwt(client.validate_jwt_svid(order["token"], order["audience"]))


def jwt_verify(client, order):
    claimed = JwtSvid.parse_insecure(order["token"], {order["audience"]}).spiffe_id.trust_domain
    bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(claimed)
    return jwt(JwtSvid.parse_and_validate(order["token"], bundle, {order["audience"]}))


def watch(client, order):
    kept.append(client.stream_x509_contexts(
        lambda context: say(event="update", of=order["source"], code="OK", result=described(context)),
        lambda error: say(event="lost", of=order["source"], code=code_of(error), error=str(error)),
        retry_connect=False))


def source(client, order):
    opened = X509Source(socket_path=order["socket"], timeout_in_seconds=deadline)
    opened.subscribe_for_updates(
        lambda: say(event="update", of=order["source"], code="OK", result=describe(opened.get_x509_context().default_svid)))
    kept.append(opened)
    return describe(opened.get_x509_context().default_svid)


handlers = {
    "x509": x509, "x509-bundles": x509_bundles, "jwt": fetch_jwt, "jwts": fetch_jwts, "jwt-bundles": jwt_bundles,
    "jwt-validate": jwt_validate, "jwt-verify": jwt_verify, "watch": watch, "source": source,
}


def carry_out(order):
    try:
        client = WorkloadApiClient(order["socket"], default_timeout=deadline)
        kept.append(client)
        say(id=order["id"], code="OK", result=handlers[order["do"]](client, order))
    except Exception as error:
        say(id=order["id"], code=code_of(error), error=f"{type(error).__name__}: {error}")


say(event="started", code="OK")
for line in sys.stdin:
    threading.Thread(target=carry_out, args=(json.loads(line),), daemon=True).start()
