// How does go-spiffe hold X.509-SVIDs of the broker?
// Whatever is answered was parsed by go-spiffe, and verified by it against the bundle of the same
// message: a chain that it does not accept is an error here.
// SPIFFE Workload API sections 5.2.1 and 5.2.2.
package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type x509SVID struct {
	ID           string `json:"id"`
	Hint         string `json:"hint"`
	Serial       string `json:"serial"`
	Certificates int    `json:"certificates"`
}

func describe(svid *x509svid.SVID) x509SVID {
	return x509SVID{svid.ID.String(), svid.Hint, hex.EncodeToString(svid.Certificates[0].SerialNumber.Bytes()), len(svid.Certificates)}
}

func describeAll(svids []*x509svid.SVID, bundles x509bundle.Source) ([]x509SVID, error) {
	var described []x509SVID
	for _, svid := range svids {
		id, _, err := x509svid.Verify(svid.Certificates, bundles)
		if err != nil {
			return nil, err
		}
		if id != svid.ID {
			return nil, fmt.Errorf("verified as %s, delivered as %s", id, svid.ID)
		}
		described = append(described, describe(svid))
	}
	return described, nil
}

func fetchX509(ctx context.Context, asked order) (any, error) {
	fetched, err := workloadapi.FetchX509Context(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	return describeAll(fetched.SVIDs, fetched.Bundles)
}

func fetchDefaultX509(ctx context.Context, asked order) (any, error) {
	svid, err := workloadapi.FetchX509SVID(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	return describe(svid), nil
}

func fetchX509Bundles(ctx context.Context, asked order) (any, error) {
	set, err := workloadapi.FetchX509Bundles(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	authorities := map[string]int{}
	for _, bundle := range set.Bundles() {
		authorities[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	return authorities, nil
}

type rawX509 struct {
	SVID   []byte   `json:"svid"`
	Bundle []byte   `json:"bundle"`
	CRLs   [][]byte `json:"crls"`
	Dead   []string `json:"dead"`
}

// fetchRawX509 gives the bytes as they came, for OpenSSL, once Go's own parser has read every CRL and found its issuer.
func fetchRawX509(ctx context.Context, asked order) (any, error) {
	client, closeConnection, err := rawClient(asked.Socket)
	if err != nil {
		return nil, err
	}
	defer closeConnection()
	stream, err := client.FetchX509SVID(secured(ctx), &workload.X509SVIDRequest{})
	if err != nil {
		return nil, err
	}
	message, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	first := message.GetSvids()[0]
	raw := rawX509{SVID: first.GetX509Svid(), Bundle: first.GetBundle(), CRLs: message.GetCrl(), Dead: []string{}}
	issuers, err := x509.ParseCertificates(append(append([]byte{}, raw.SVID...), raw.Bundle...))
	if err != nil {
		return nil, err
	}
	for _, der := range raw.CRLs {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		if !signedByOneOf(list, issuers) {
			return nil, errors.New("a CRL that no authority of this message signed")
		}
		for _, entry := range list.RevokedCertificateEntries {
			raw.Dead = append(raw.Dead, hex.EncodeToString(entry.SerialNumber.Bytes()))
		}
	}
	return raw, nil
}

func signedByOneOf(list *x509.RevocationList, issuers []*x509.Certificate) bool {
	for _, issuer := range issuers {
		if list.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

type watcher struct{ name string }

func (w watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	described, err := describeAll(update.SVIDs, update.Bundles)
	tell("update", w.name, described, err)
}

func (w watcher) OnX509ContextWatchError(err error) {
	tell("lost", w.name, nil, err)
}

func watchX509(_ context.Context, asked order) (any, error) {
	go func() {
		err := workloadapi.WatchX509Context(context.Background(), watcher{asked.Source}, workloadapi.WithAddr(asked.Socket))
		tell("stopped", asked.Source, nil, err)
	}()
	return nil, nil
}

var (
	sources     = map[string]*workloadapi.X509Source{}
	sourcesLock sync.Mutex
)

func openSource(ctx context.Context, asked order) (any, error) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(asked.Socket)))
	if err != nil {
		return nil, err
	}
	sourcesLock.Lock()
	sources[asked.Source] = source
	sourcesLock.Unlock()
	go func() {
		for range source.Updated() {
			svid, err := source.GetX509SVID()
			if err != nil {
				tell("update", asked.Source, nil, err)
			} else {
				tell("update", asked.Source, describe(svid), nil)
			}
		}
	}()
	return sourceSVID(ctx, asked)
}

func sourceNamed(name string) (*workloadapi.X509Source, error) {
	sourcesLock.Lock()
	defer sourcesLock.Unlock()
	source, open := sources[name]
	if !open {
		return nil, errors.New("no such source: " + name)
	}
	return source, nil
}

func sourceSVID(_ context.Context, asked order) (any, error) {
	source, err := sourceNamed(asked.Source)
	if err != nil {
		return nil, err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	return describe(svid), nil
}
