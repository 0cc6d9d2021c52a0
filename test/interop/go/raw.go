// What does plain grpc-go, without a SPIFFE library, get on the socket?
// The security header's absence or a wrong value, the methods that are not there, health, and
// reflection in both of its versions.
// SPIFFE Workload Endpoint sections 4, 6 and 7; gRPC health checking and server reflection.
package main

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionold "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func dialSocket(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func rawClient(socket string) (workload.SpiffeWorkloadAPIClient, func() error, error) {
	connection, err := dialSocket(socket)
	if err != nil {
		return nil, nil, err
	}
	return workload.NewSpiffeWorkloadAPIClient(connection), connection.Close, nil
}

func secured(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
}

// withHeader calls every method with this value of the security header (empty: without it), and answers with their status codes.
func withHeader(ctx context.Context, asked order) (any, error) {
	connection, err := dialSocket(asked.Socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	client := workload.NewSpiffeWorkloadAPIClient(connection)
	if asked.Header != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", asked.Header)
	}
	_, fetchJWT := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"crm"}})
	_, validate := client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Audience: "crm", Svid: "x"})
	_, health := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return map[string]string{
		"FetchJWTSVID":     codeOf(fetchJWT),
		"ValidateJWTSVID":  codeOf(validate),
		"Health":           codeOf(health),
		"FetchX509SVID":    firstCode(client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})),
		"FetchX509Bundles": firstCode(client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{})),
		"FetchJWTBundles":  firstCode(client.FetchJWTBundles(ctx, &workload.JWTBundlesRequest{})),
		"FetchWITSVID":     firstCode(client.FetchWITSVID(ctx, &workload.WITSVIDRequest{})),
		"FetchWITBundles":  firstCode(client.FetchWITBundles(ctx, &workload.WITBundlesRequest{})),
	}, nil
}

func firstCode[M any](stream grpc.ServerStreamingClient[M], err error) string {
	if err == nil {
		_, err = stream.Recv()
	}
	return codeOf(err)
}

// fetchWIT asks as go-spiffe does.
func fetchWIT(ctx context.Context, asked order) (any, error) {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(asked.Socket))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	_, svid := client.FetchWITSVID(ctx, "")
	_, bundles := client.FetchWITBundles(ctx)
	return map[string]string{"svid": codeOf(svid), "bundles": codeOf(bundles)}, nil
}

func checkHealth(ctx context.Context, asked order) (any, error) {
	connection, err := dialSocket(asked.Socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	checked, err := grpc_health_v1.NewHealthClient(connection).Check(secured(ctx), &grpc_health_v1.HealthCheckRequest{Service: asked.Service})
	if err != nil {
		return nil, err
	}
	return checked.GetStatus().String(), nil
}

// listServices reads the services' names, and of the standard's own service the methods, from the descriptors that came.
func listServices(ctx context.Context, asked order) (any, error) {
	connection, err := dialSocket(asked.Socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stream, err := reflection.NewServerReflectionClient(connection).ServerReflectionInfo(secured(ctx))
	if err != nil {
		return nil, err
	}
	ask := func(question *reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error) {
		if err := stream.Send(question); err != nil {
			return nil, err
		}
		return stream.Recv()
	}
	listed, err := ask(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, service := range listed.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	const standard = "SpiffeWorkloadAPI"
	found, err := ask(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: standard},
	})
	if err != nil {
		return nil, err
	}
	methods, err := methodsOf(standard, found.GetFileDescriptorResponse().GetFileDescriptorProto())
	return map[string][]string{"services": names, "methods": methods}, err
}

func methodsOf(service string, files [][]byte) ([]string, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, encoded := range files {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(encoded, file); err != nil {
			return nil, err
		}
		set.File = append(set.File, file)
	}
	registry, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	found, err := registry.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	described := found.(protoreflect.ServiceDescriptor).Methods()
	methods := []string{}
	for i := 0; i < described.Len(); i++ {
		methods = append(methods, string(described.Get(i).Name()))
	}
	return methods, nil
}

// listServicesOld asks the version that older tools speak.
func listServicesOld(ctx context.Context, asked order) (any, error) {
	connection, err := dialSocket(asked.Socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stream, err := reflectionold.NewServerReflectionClient(connection).ServerReflectionInfo(secured(ctx))
	if err != nil {
		return nil, err
	}
	list := &reflectionold.ServerReflectionRequest{MessageRequest: &reflectionold.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(list); err != nil {
		return nil, err
	}
	answered, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, service := range answered.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names, nil
}
