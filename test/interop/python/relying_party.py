"""Does a relying party that knows OpenID Connect and nothing of SPIFFE verify the broker's tokens?

PyJWT, as anybody has it from its makers, finds the keys by discovery: issuer and audience in, claims out. With
`status` it also fetches the token's status list, verifies it with the same keys, and says the token's bit.
"""

import base64
import json
import sys
import urllib.request
import zlib

import jwt


def fetched(url):
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.read()


def verified(keys, token, **what):
    return jwt.decode(token, keys.get_signing_key_from_jwt(token).key, algorithms=["ES256"], **what)


def status(keys, claims):
    place = claims["status"]["status_list"]
    token = fetched(place["uri"]).decode()
    if jwt.get_unverified_header(token)["typ"] != "statuslist+jwt":
        raise ValueError("not a status list")
    found = verified(keys, token, options={"require": ["sub", "iat", "exp", "ttl"]})
    if found["sub"] != place["uri"]:
        raise ValueError("another list")
    packed = found["status_list"]["lst"]
    bits = zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    return bits[place["idx"] // 8] >> (place["idx"] % 8) & 1


def main():
    order = json.loads(sys.argv[1])
    document = json.loads(fetched(order["issuer"] + "/.well-known/openid-configuration"))
    if document["issuer"] != order["issuer"]:
        raise ValueError("another issuer")
    keys = jwt.PyJWKClient(document["jwks_uri"])
    claims = verified(keys, order["token"], audience=order["audience"], issuer=order["issuer"])
    print(json.dumps({"claims": claims, "status": status(keys, claims) if "status" in claims else None}))


main()
