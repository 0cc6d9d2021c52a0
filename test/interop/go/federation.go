// Can a trust domain that go-spiffe runs federate with the broker's, both ways?
// A partner as SPIRE would be one: an authority of its own, a bundle endpoint by https_spiffe, and a service
// that trusts the broker's agents by the bundle that go-spiffe's own watch fetches.
// SPIFFE Federation sections 4.1, 5.2.2; what is right is for the tests to say (../federation.test.ts).
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

var (
	partnerDomain = spiffeid.RequireTrustDomainFromString("partner.example")
	partnerBundle *spiffebundle.Bundle
	partnerSVID   *x509svid.SVID
	known         = spiffebundle.NewSet()
)

type partner struct {
	URL    string `json:"url"`
	ID     string `json:"id"`
	Bundle string `json:"bundle"`
}

// openPartner makes the partner's authority and serves its bundle.
func openPartner(_ context.Context, _ order) (any, error) {
	authority, key, err := newAuthority()
	if err != nil {
		return nil, err
	}
	partnerBundle = spiffebundle.FromX509Authorities(partnerDomain, []*x509.Certificate{authority})
	partnerBundle.SetSequenceNumber(1)
	partnerBundle.SetRefreshHint(time.Second)
	known.Add(partnerBundle)
	if partnerSVID, err = newSVID("/store", authority, key); err != nil {
		return nil, err
	}
	handler, err := federation.NewHandler(partnerDomain, known)
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.TLSServerConfig(partnerSVID))
	if err != nil {
		return nil, err
	}
	go func() { _ = http.Serve(listener, handler) }()
	document, err := partnerBundle.Marshal()
	return partner{"https://" + listener.Addr().String(), partnerSVID.ID.String(), string(document)}, err
}

// rotatePartner adds an authority to the partner's bundle.
func rotatePartner(_ context.Context, _ order) (any, error) {
	authority, _, err := newAuthority()
	if err != nil {
		return nil, err
	}
	partnerBundle.AddX509Authority(authority)
	partnerBundle.SetSequenceNumber(2)
	return len(partnerBundle.X509Authorities()), nil
}

type fetchedBundle struct {
	Sequence uint64  `json:"sequence"`
	X509     int     `json:"x509"`
	JWT      int     `json:"jwt"`
	Hint     float64 `json:"hint"`
}

func described(bundle *spiffebundle.Bundle) fetchedBundle {
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	return fetchedBundle{sequence, len(bundle.X509Authorities()), len(bundle.JWTAuthorities()), hint.Seconds()}
}

// endpointOf reads the first bundle (Text) and who the endpoint must be (SpiffeID).
func endpointOf(asked order) (spiffeid.TrustDomain, federation.FetchOption, error) {
	id, err := spiffeid.FromString(asked.SpiffeID)
	if err != nil {
		return spiffeid.TrustDomain{}, nil, err
	}
	bundle, err := spiffebundle.Parse(id.TrustDomain(), []byte(asked.Text))
	if err != nil {
		return spiffeid.TrustDomain{}, nil, err
	}
	return id.TrustDomain(), federation.WithSPIFFEAuth(bundle, id), nil
}

func fetchFederated(ctx context.Context, asked order) (any, error) {
	domain, option, err := endpointOf(asked)
	if err != nil {
		return nil, err
	}
	bundle, err := federation.FetchBundle(ctx, domain, asked.Address, option)
	if err != nil {
		return nil, err
	}
	return described(bundle), nil
}

type bundleWatcher struct{ of string }

func (w bundleWatcher) NextRefresh(hint time.Duration) time.Duration { return hint }

func (w bundleWatcher) OnUpdate(bundle *spiffebundle.Bundle) {
	known.Add(bundle)
	tell("update", w.of, described(bundle), nil)
}

func (w bundleWatcher) OnError(err error) { tell("failed", w.of, nil, err) }

func watchFederated(_ context.Context, asked order) (any, error) {
	domain, option, err := endpointOf(asked)
	if err != nil {
		return nil, err
	}
	go func() {
		_ = federation.WatchBundle(context.Background(), domain, asked.Address, bundleWatcher{asked.Source}, option)
	}()
	return nil, nil
}

// servePartner is the partner's service: its callers are agents of the trust domain in SpiffeID.
func servePartner(_ context.Context, asked order) (any, error) {
	domain, err := spiffeid.TrustDomainFromString(asked.SpiffeID)
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(partnerSVID, known, tlsconfig.AuthorizeMemberOf(domain)))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go reply(connection.(*tls.Conn))
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func newAuthority() (*x509.Certificate, crypto.Signer, error) {
	template := certificateOf(&url.URL{Scheme: "spiffe", Host: partnerDomain.Name()}, 24*time.Hour)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	return signed(template, nil, nil)
}

func newSVID(path string, authority *x509.Certificate, key crypto.Signer) (*x509svid.SVID, error) {
	template := certificateOf(&url.URL{Scheme: "spiffe", Host: partnerDomain.Name(), Path: path}, time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leaf, leafKey, err := signed(template, authority, key)
	if err != nil {
		return nil, err
	}
	id, err := x509svid.IDFromCert(leaf)
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{leaf}, PrivateKey: leafKey}, err
}

func certificateOf(name *url.URL, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	now := time.Now()
	// RFC 5280 section 4.1.2.4: an issuer has a name; each of several authorities its own
	subject := pkix.Name{Organization: []string{partnerDomain.Name()}, SerialNumber: serial.String()}
	return &x509.Certificate{SerialNumber: serial, Subject: subject, URIs: []*url.URL{name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life)}
}

func signed(template, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, errors.Join(err)
}
