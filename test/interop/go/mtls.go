// Do a Go program and another one trust each other by the broker's SVIDs?
// TLS is Go's own, checked by go-spiffe: the server takes any member of its trust domain, the client
// only the SPIFFE ID that it was told. Each connection carries one line there and one back.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// serve listens on loopback; to each line it answers with the caller's SPIFFE ID and that line.
func serve(_ context.Context, asked order) (any, error) {
	source, err := sourceNamed(asked.Source)
	if err != nil {
		return nil, err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeMemberOf(svid.ID.TrustDomain()))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
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

func reply(connection *tls.Conn) {
	defer connection.Close()
	if err := connection.Handshake(); err != nil {
		tell("refused", "", nil, err)
		return
	}
	caller, err := spiffetls.PeerIDFromConnectionState(connection.ConnectionState())
	if err != nil {
		tell("refused", "", nil, err)
		return
	}
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		fmt.Fprintf(connection, "%s %s\n", caller, lines.Text())
	}
}

func connect(ctx context.Context, asked order) (net.Conn, error) {
	source, err := sourceNamed(asked.Source)
	if err != nil {
		return nil, err
	}
	expected, err := spiffeid.FromString(asked.SpiffeID)
	if err != nil {
		return nil, err
	}
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(expected))
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", asked.Address)
}

func exchange(ctx context.Context, connection net.Conn, text string) (string, error) {
	if end, set := ctx.Deadline(); set {
		if err := connection.SetDeadline(end); err != nil {
			return "", err
		}
	}
	if _, err := fmt.Fprintln(connection, text); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func dial(ctx context.Context, asked order) (any, error) {
	connection, err := connect(ctx, asked)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return exchange(ctx, connection, asked.Text)
}

// hold keeps the connection after its line was answered, and tells when the other side cuts it.
func hold(ctx context.Context, asked order) (any, error) {
	connection, err := connect(ctx, asked)
	if err != nil {
		return nil, err
	}
	line, err := exchange(ctx, connection, asked.Text)
	if err != nil {
		connection.Close()
		return nil, err
	}
	go func() {
		defer connection.Close()
		_, err := connection.Read(make([]byte, 1))
		tell("cut", asked.Source, nil, err)
	}()
	return line, nil
}
