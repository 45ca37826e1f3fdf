package jaegerrpc

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // what the others are passed to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// encoded is a message that is bytes already: a trace that the store gave, a request
// that the intake decodes.
type encoded []byte

// gogo is a message of api_v2. Its Go types (a TraceID of two integers, time.Time) are
// nothing that the Go protobuf runtime understands, but it brings its own code.
type gogo interface {
	Reset()
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// codec is "proto" for these two and passes all other messages to the registered one.
// It is forced on our server instead of being registered itself, since the registry is
// the whole process's.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) (mem.BufferSlice, error) {
	switch m := message.(type) {
	case encoded:
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	case proto.Message:
	case gogo:
		body, err := m.Marshal()
		return mem.BufferSlice{mem.SliceBuffer(body)}, err
	}
	return encoding.GetCodecV2("proto").Marshal(message)
}

func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	switch m := message.(type) {
	case *encoded:
		*m = data.Materialize()
		return nil
	case proto.Message:
	case gogo:
		m.Reset()
		return m.Unmarshal(data.Materialize())
	}
	return encoding.GetCodecV2("proto").Unmarshal(data, message)
}
