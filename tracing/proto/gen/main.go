package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
	_ "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/pluginpb"
)

const module = "github.com/weir-dev/weir/tracing/proto"

// contract is one file of the contracts.
type contract struct {
	module string // flag that names the folder it lies in
	path   string // in that folder
	was    string // how the others import it
	name   string // how it is registered: unique in the binary
	pkg    string // Go package below [module]
}

var contracts = []contract{
	{"idl", "proto/expression/v1/expression.proto", "expression/v1/expression.proto", "jaeger/expression/v1/expression.proto", "expressionv1"},
	{"idl", "proto/api_v3/query_service.proto", "api_v3/query_service.proto", "jaeger/api_v3/query_service.proto", "apiv3"},
	{"idl", "proto/api_v3/capabilities.proto", "api_v3/capabilities.proto", "jaeger/api_v3/capabilities.proto", "apiv3"},
	{"idl", "proto/storage/v2/trace_storage.proto", "storage/v2/trace_storage.proto", "jaeger/storage/v2/trace_storage.proto", "storagev2"},
	{"idl", "proto/storage/v2/dependency_storage.proto", "storage/v2/dependency_storage.proto", "jaeger/storage/v2/dependency_storage.proto", "storagev2"},
	{"idl", "proto/storage/v2/capabilities.proto", "storage/v2/capabilities.proto", "jaeger/storage/v2/capabilities.proto", "storagev2"},
	{"metrics", "model/proto/metrics/openmetrics.proto", "openmetrics.proto", "jaeger/api_v2/metrics/openmetrics.proto", "apiv2metrics"},
	{"metrics", "model/proto/metrics/otelspankind.proto", "otelspankind.proto", "jaeger/api_v2/metrics/otelspankind.proto", "apiv2metrics"},
	{"metrics", "model/proto/metrics/metricsquery.proto", "metricsquery.proto", "jaeger/api_v2/metrics/metricsquery.proto", "apiv2metrics"},
}

// linked are the packages whose files come with their Go code.
var linked = []string{"opentelemetry/", "google/protobuf/duration.proto", "google/protobuf/timestamp.proto"}

func main() {
	log.SetFlags(0)
	idl := flag.String("idl", "", "folder of github.com/jaegertracing/jaeger-idl")
	metrics := flag.String("metrics", "", "folder of github.com/jaegertracing/jaeger v1.62")
	out := flag.String("out", "..", "folder to write to")
	flag.Parse()
	if err := run(context.Background(), map[string]string{"idl": *idl, "metrics": *metrics}, *out); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, folders map[string]string, out string) error {
	stripped := make(map[string]*descriptorpb.FileDescriptorProto)
	for _, c := range contracts {
		file, err := parse(filepath.Join(folders[c.module], c.path), c)
		if err != nil {
			return err
		}
		stripped[c.name] = file
	}
	request, err := link(ctx, stripped)
	if err != nil {
		return err
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := generate(ctx, plugin, request, out); err != nil {
			return err
		}
	}
	return nil
}

// parse reads a file and leaves of it what decides about the wire.
func parse(path string, c contract) (*descriptorpb.FileDescriptorProto, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.path, err)
	}
	handler := reporter.NewHandler(nil)
	tree, err := parser.Parse(c.name, bytes.NewReader(text), handler)
	if err != nil {
		return nil, err
	}
	result, err := parser.ResultFromAST(tree, true, handler)
	if err != nil {
		return nil, err
	}
	file := result.FileDescriptorProto()
	file.SourceCodeInfo = nil
	file.Extension = nil
	file.Options = &descriptorpb.FileOptions{GoPackage: new(module + "/" + c.pkg)}
	file.PublicDependency, file.WeakDependency = nil, nil
	file.Dependency = slices.DeleteFunc(file.Dependency, func(name string) bool { return rename(name) == "" })
	for i, name := range file.Dependency {
		file.Dependency[i] = rename(name)
	}
	stripMessages(file.MessageType)
	stripEnums(file.EnumType)
	for _, service := range file.Service {
		service.Options = nil
		for _, method := range service.Method {
			method.Options = nil
		}
	}
	return file, nil
}

// rename is how an imported file is called here; empty if it only defines options.
func rename(name string) string {
	for _, c := range contracts {
		if c.was == name {
			return c.name
		}
	}
	for _, prefix := range linked {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

func stripMessages(messages []*descriptorpb.DescriptorProto) {
	for _, m := range messages {
		m.Options = keepMapEntry(m.Options)
		for _, field := range m.Field {
			field.Options = nil
		}
		for _, oneof := range m.OneofDecl {
			oneof.Options = nil
		}
		stripMessages(m.NestedType)
		stripEnums(m.EnumType)
	}
}

func keepMapEntry(options *descriptorpb.MessageOptions) *descriptorpb.MessageOptions {
	if !options.GetMapEntry() {
		return nil
	}
	return &descriptorpb.MessageOptions{MapEntry: new(true)}
}

func stripEnums(enums []*descriptorpb.EnumDescriptorProto) {
	for _, e := range enums {
		e.Options = nil
		for _, value := range e.Value {
			value.Options = nil
		}
	}
}

// link resolves the names of the files and returns what a plugin of protoc asks for.
func link(ctx context.Context, stripped map[string]*descriptorpb.FileDescriptorProto) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{Resolver: protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
		if file, ok := stripped[name]; ok {
			return protocompile.SearchResult{Proto: proto.CloneOf(file)}, nil
		}
		file, err := protoregistry.GlobalFiles.FindFileByPath(name)
		if err != nil {
			return protocompile.SearchResult{}, fmt.Errorf("import %s: %w", name, err)
		}
		return protocompile.SearchResult{Desc: file}, nil
	})}
	var names []string
	for _, c := range contracts {
		names = append(names, c.name)
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		Parameter:      new("module=" + module),
		FileToGenerate: names,
	}
	seen := make(map[string]bool)
	for _, file := range files {
		collect(file, seen, request)
	}
	return request, nil
}

// collect appends file after all that it imports.
func collect(file protoreflect.FileDescriptor, seen map[string]bool, request *pluginpb.CodeGeneratorRequest) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		collect(file.Imports().Get(i).FileDescriptor, seen, request)
	}
	request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(file))
}

func generate(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest, out string) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(body), os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run %s: %w", plugin, err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return errors.New(plugin + ": " + response.GetError())
	}
	for _, file := range response.File {
		name := filepath.Join(out, filepath.FromSlash(file.GetName()))
		if err := cmp.Or(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(file.GetContent()), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// What [linked] names must be in the registry.
var _, _ = durationpb.File_google_protobuf_duration_proto, timestamppb.File_google_protobuf_timestamp_proto
