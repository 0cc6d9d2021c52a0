// What does a stock gRPC client in Go get from the broker over the network?
// The certificates are an X509Source's or an operator's PEM, the server is the one of exactly the SPIFFE ID that
// was told, all by go-spiffe; which methods and messages there are is learnt by reflection, as grpcurl does it.
// A message is JSON to the test. What a stream hears comes as an event, and so does its end.
// X509-SVID section 5; who may call what is for the tests to say (../network.test.ts).
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// remote is a broker on the network, and what it said that it serves.
type remote struct {
	connection *grpc.ClientConn
	files      *protoregistry.Files
}

var (
	remotes     = map[string]remote{}
	remotesLock sync.Mutex
)

type server struct {
	ID       string   `json:"id"`
	TLS      string   `json:"tls"`
	Services []string `json:"services"`
}

// openRemote connects to Address, whose server must be SpiffeID, as the one that Source holds or, with PEM, as its
// holder; with TLS (1.2) by no newer one. The connection stays, under the name in Service.
func openRemote(ctx context.Context, asked order) (any, error) {
	config, err := clientConfig(asked)
	if err != nil {
		return nil, err
	}
	if asked.TLS == "1.2" {
		config.MaxVersion = tls.VersionTLS12
	}
	connection, err := grpc.NewClient("dns:///"+asked.Address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	found, files, err := meet(ctx, connection)
	if err != nil {
		connection.Close()
		return nil, reasoned(err)
	}
	remotesLock.Lock()
	defer remotesLock.Unlock()
	remotes[asked.Service] = remote{connection, files}
	return found, nil
}

func clientConfig(asked order) (*tls.Config, error) {
	expected, err := spiffeid.FromString(asked.SpiffeID)
	if err != nil {
		return nil, err
	}
	if asked.PEM == "" {
		source, err := sourceNamed(asked.Source)
		if err != nil {
			return nil, err
		}
		return tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(expected)), nil
	}
	svid, err := x509svid.Parse([]byte(asked.PEM), []byte(asked.PEM))
	if err != nil {
		return nil, err
	}
	bundle, err := x509bundle.Parse(expected.TrustDomain(), []byte(asked.Bundle))
	if err != nil {
		return nil, err
	}
	return tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(expected)), nil
}

// meet says who is at the other end, and reads what it serves.
func meet(ctx context.Context, connection *grpc.ClientConn) (*server, *protoregistry.Files, error) {
	stream, err := reflection.NewServerReflectionClient(connection).ServerReflectionInfo(secured(ctx))
	if err != nil {
		return nil, nil, err
	}
	// where the call is over, what is received says why
	_ = stream.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
	listed, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	found := &server{}
	if end, known := peer.FromContext(stream.Context()); known {
		info := end.AuthInfo.(credentials.TLSInfo)
		found.ID, found.TLS = info.SPIFFEID.String(), tls.VersionName(info.State.Version)
	}
	files := map[string]*descriptorpb.FileDescriptorProto{}
	for _, service := range listed.GetListServicesResponse().GetService() {
		found.Services = append(found.Services, service.GetName())
		if !strings.HasPrefix(service.GetName(), "brevet.v1.") {
			continue
		}
		_ = stream.Send(&reflection.ServerReflectionRequest{
			MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service.GetName()},
		})
		answered, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		for _, encoded := range answered.GetFileDescriptorResponse().GetFileDescriptorProto() {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(encoded, file); err != nil {
				return nil, nil, err
			}
			files[file.GetName()] = file
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, file := range files {
		set.File = append(set.File, file)
	}
	registry, err := protodesc.NewFiles(set)
	return found, registry, err
}

// startCall calls Method (brevet.v1.Tasks/Open) of the remote that Service names, with the message in Text.
func startCall(ctx context.Context, asked order) (grpc.ClientStream, protoreflect.MessageDescriptor, error) {
	remotesLock.Lock()
	to, open := remotes[asked.Service]
	remotesLock.Unlock()
	if !open {
		return nil, nil, fmt.Errorf("no such remote: %s", asked.Service)
	}
	found, err := to.files.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(asked.Method, "/", ".")))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", asked.Method, err)
	}
	method := found.(protoreflect.MethodDescriptor)
	request := dynamicpb.NewMessage(method.Input())
	if err := protojson.Unmarshal([]byte(asked.Text), request); err != nil {
		return nil, nil, err
	}
	shape := &grpc.StreamDesc{ServerStreams: method.IsStreamingServer(), ClientStreams: method.IsStreamingClient()}
	stream, err := to.connection.NewStream(secured(ctx), shape, "/"+asked.Method)
	if err != nil {
		return nil, nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // io.EOF: over; what is received says why
		return nil, nil, err
	}
	return stream, method.Output(), stream.CloseSend()
}

func receive(stream grpc.ClientStream, shape protoreflect.MessageDescriptor) (json.RawMessage, error) {
	message := dynamicpb.NewMessage(shape)
	if err := stream.RecvMsg(message); err != nil {
		return nil, err
	}
	return protojson.Marshal(message)
}

func callRemote(ctx context.Context, asked order) (any, error) {
	stream, shape, err := startCall(ctx, asked)
	if err != nil {
		return nil, reasoned(err)
	}
	message, err := receive(stream, shape)
	if err != nil {
		return nil, reasoned(err)
	}
	return message, nil
}

// followRemote tells each message of a stream, under the name of the remote.
func followRemote(_ context.Context, asked order) (any, error) {
	stream, shape, err := startCall(context.Background(), asked)
	if err != nil {
		return nil, reasoned(err)
	}
	go func() {
		for {
			message, err := receive(stream, shape)
			if err != nil {
				tell("ended", asked.Service, nil, reasoned(err))
				return
			}
			tell("message", asked.Service, message, nil)
		}
	}()
	return nil, nil
}

// reasoned puts the broker's own code, which comes as google.rpc.ErrorInfo, before what it says.
func reasoned(err error) error {
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			return fmt.Errorf("%s: %w", info.GetReason(), err)
		}
	}
	return err
}
