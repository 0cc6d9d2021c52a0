// Are the broker's JWT-SVIDs good to others?
// To go-spiffe with the bundle that it fetched itself, to the broker's own validation, and to a JWT
// library that knows nothing of SPIFFE and holds only the JWK Set.
// SPIFFE Workload API sections 6.2.1-6.2.3, JWT-SVID section 5, RFC 7515, RFC 7517, RFC 7519.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type jwtSVID struct {
	ID     string         `json:"id"`
	Hint   string         `json:"hint"`
	Token  string         `json:"token"`
	Claims map[string]any `json:"claims"`
}

func params(asked order) (jwtsvid.Params, error) {
	wanted := jwtsvid.Params{Audience: asked.Audience}
	if asked.Extra != "" {
		wanted.ExtraAudiences = []string{asked.Extra}
	}
	if asked.SpiffeID == "" {
		return wanted, nil
	}
	subject, err := spiffeid.FromString(asked.SpiffeID)
	wanted.Subject = subject
	return wanted, err
}

func fetchJWT(ctx context.Context, asked order) (any, error) {
	wanted, err := params(asked)
	if err != nil {
		return nil, err
	}
	svid, err := workloadapi.FetchJWTSVID(ctx, wanted, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	return jwtSVID{svid.ID.String(), svid.Hint, svid.Marshal(), svid.Claims}, nil
}

func fetchJWTs(ctx context.Context, asked order) (any, error) {
	wanted, err := params(asked)
	if err != nil {
		return nil, err
	}
	svids, err := workloadapi.FetchJWTSVIDs(ctx, wanted, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	var fetched []jwtSVID
	for _, svid := range svids {
		fetched = append(fetched, jwtSVID{svid.ID.String(), svid.Hint, svid.Marshal(), svid.Claims})
	}
	return fetched, nil
}

func fetchJWTBundles(ctx context.Context, asked order) (any, error) {
	set, err := workloadapi.FetchJWTBundles(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	authorities := map[string]int{}
	for _, bundle := range set.Bundles() {
		authorities[bundle.TrustDomain().Name()] = len(bundle.JWTAuthorities())
	}
	return authorities, nil
}

// validateJWT asks the broker.
func validateJWT(ctx context.Context, asked order) (any, error) {
	svid, err := workloadapi.ValidateJWTSVID(ctx, asked.Token, asked.Audience, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	return jwtSVID{svid.ID.String(), svid.Hint, svid.Marshal(), svid.Claims}, nil
}

// verifyJWT asks nobody but the bundle.
func verifyJWT(ctx context.Context, asked order) (any, error) {
	bundles, err := workloadapi.FetchJWTBundles(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	svid, err := jwtsvid.ParseAndValidate(asked.Token, bundles, []string{asked.Audience})
	if err != nil {
		return nil, err
	}
	return jwtSVID{svid.ID.String(), svid.Hint, svid.Marshal(), svid.Claims}, nil
}

func verifyJWTWithJWKS(_ context.Context, asked order) (any, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(asked.JWKS), &set); err != nil {
		return nil, err
	}
	findKey := func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		keys := set.Key(id)
		if len(keys) != 1 {
			return nil, fmt.Errorf("%d keys with the ID %q", len(keys), id)
		}
		return keys[0].Key, nil
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(asked.Token, claims, findKey,
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(asked.Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return nil, err
	}
	if !parsed.Valid {
		return nil, errors.New("not valid")
	}
	return claims, nil
}
