// What do Go's own library and zlint say of a certificate or a list?
// `read LIST CA SERIAL`: crypto/x509 parses the list, checks its signature, and says how many it holds and whether
// SERIAL is among them. `certificate FILE` and `list FILE`: all lints of RFCs and of the community, none of the
// web's root programs, for this is no web PKI; a line for each finding that is a notice or worse.
package main

import (
	stdx509 "crypto/x509"
	"fmt"
	"os"
	"sort"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

func main() {
	registry := must(lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.Community,
	}}))
	der := must(os.ReadFile(os.Args[2]))
	switch os.Args[1] {
	case "read":
		read(der, must(stdx509.ParseCertificate(must(os.ReadFile(os.Args[3])))), os.Args[4])
	case "certificate":
		report(zlint.LintCertificateEx(must(x509.ParseCertificate(der)), registry))
	case "list":
		report(zlint.LintRevocationListEx(must(x509.ParseRevocationList(der)), registry))
	}
}

func read(der []byte, ca *stdx509.Certificate, serial string) {
	list := must(stdx509.ParseRevocationList(der))
	if err := list.CheckSignatureFrom(ca); err != nil {
		fail(err)
	}
	found := false
	for _, entry := range list.RevokedCertificateEntries {
		found = found || entry.SerialNumber.Text(16) == serial
	}
	fmt.Println(list.Number, len(list.RevokedCertificateEntries), found)
}

func report(set *zlint.ResultSet) {
	passed := 0
	var found []string
	for name, result := range set.Results {
		if result.Status == lint.Pass {
			passed++
		}
		if result.Status >= lint.Notice {
			found = append(found, fmt.Sprintf("%s %s", result.Status, name))
		}
	}
	if passed == 0 {
		fail(fmt.Errorf("no lint applied"))
	}
	sort.Strings(found)
	for _, line := range found {
		fmt.Println(line)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fail(err)
	}
	return value
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
