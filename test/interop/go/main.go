// What does a stock SPIFFE client in Go see of the broker?
// A program of its own: it carries out orders, one JSON object a line on standard input, and answers
// each on standard output, with nothing but go-spiffe, grpc-go and the Go library in between. What a
// watch hears comes as an event, when it comes.
// Which answers are right is for the tests to say (../go.test.ts).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// order is what the test wants; each kind of order reads the fields that it needs.
type order struct {
	ID       int    `json:"id"`
	Do       string `json:"do"`
	Socket   string `json:"socket"`
	Audience string `json:"audience"`
	Extra    string `json:"extra"`
	SpiffeID string `json:"spiffeId"`
	Token    string `json:"token"`
	JWKS     string `json:"jwks"`
	Source   string `json:"source"`
	Address  string `json:"address"`
	Text     string `json:"text"`
	Header   string `json:"header"`
	Service  string `json:"service"`
	Method   string `json:"method"`
	TLS      string `json:"tls"`
	PEM      string `json:"pem"`
	Bundle   string `json:"bundle"`
}

type answer struct {
	ID     int    `json:"id,omitempty"`
	Event  string `json:"event,omitempty"`
	Of     string `json:"of,omitempty"`
	Code   string `json:"code"`
	Error  string `json:"error,omitempty"`
	Result any    `json:"result,omitempty"`
}

const deadline = 40 * time.Second

var handlers = map[string]func(context.Context, order) (any, error){
	"x509":           fetchX509,
	"x509-default":   fetchDefaultX509,
	"x509-raw":       fetchRawX509,
	"x509-bundles":   fetchX509Bundles,
	"jwt":            fetchJWT,
	"jwts":           fetchJWTs,
	"jwt-bundles":    fetchJWTBundles,
	"jwt-validate":   validateJWT,
	"jwt-verify":     verifyJWT,
	"jwt-jwks":       verifyJWTWithJWKS,
	"wit":            fetchWIT,
	"watch":          watchX509,
	"source":         openSource,
	"source-svid":    sourceSVID,
	"serve":          serve,
	"dial":           dial,
	"hold":           hold,
	"partner":        openPartner,
	"partner-rotate": rotatePartner,
	"partner-serve":  servePartner,
	"bundle-fetch":   fetchFederated,
	"bundle-watch":   watchFederated,
	"remote":         openRemote,
	"remote-call":    callRemote,
	"remote-follow":  followRemote,
	"header":         withHeader,
	"health":         checkHealth,
	"reflection":     listServices,
	"reflection-old": listServicesOld,
}

var output sync.Mutex

func main() {
	fmt.Println(`{"event":"started","code":"OK"}`)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked order
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, "not an order:", err)
			os.Exit(2)
		}
		go carryOut(asked)
	}
}

func carryOut(asked order) {
	handler, known := handlers[asked.Do]
	if !known {
		say(answer{ID: asked.ID, Code: "Unknown", Error: "no such order: " + asked.Do})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	result, err := handler(ctx, asked)
	say(answer{ID: asked.ID, Code: codeOf(err), Error: textOf(err), Result: result})
}

func tell(event, of string, result any, err error) {
	say(answer{Event: event, Of: of, Code: codeOf(err), Error: textOf(err), Result: result})
}

func say(what answer) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

// codeOf names the gRPC status: OK for no error, Local for what never came off the wire.
func codeOf(err error) string {
	if err == nil {
		return codes.OK.String()
	}
	var onWire interface{ GRPCStatus() *status.Status }
	if errors.As(err, &onWire) {
		return onWire.GRPCStatus().Code().String()
	}
	return "Local"
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
