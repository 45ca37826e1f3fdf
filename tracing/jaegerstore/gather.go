package jaegerstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/weir-dev/weir/tracing/span"
)

// gathered are traces as the storage sends them: in one message, or several. Messages
// of OTLP put end to end are one message, so that the parts of a trace are.
type gathered struct {
	room   int  // bytes that may yet be held
	full   bool // there was no room for more
	bodies map[span.TraceID][]byte
	order  []span.TraceID
}

// add takes a message, which it keeps. It returns false when it has no room for it.
func (g *gathered) add(message []byte, scratch *span.Batch) (bool, error) {
	if err := scratch.Decode(message); err != nil {
		return false, err
	}
	if len(scratch.Spans) == 0 {
		return true, nil
	}
	id := scratch.Spans[0].TraceID
	if g.room -= len(message); g.room < 0 {
		g.full = true
		g.drop(id) // what there is of it is not whole
		return false, nil
	}
	for i := range scratch.Spans {
		if scratch.Spans[i].TraceID != id {
			g.apart(scratch)
			return true, nil
		}
	}
	g.put(id, message)
	return true, nil
}

func (g *gathered) drop(id span.TraceID) {
	if n := len(g.order); n > 0 && g.order[n-1] == id {
		delete(g.bodies, id)
		g.order = g.order[:n-1]
	}
}

// apart takes a message of several traces, which the protocol does not allow but a
// storage of Jaeger's first version may send.
func (g *gathered) apart(b *span.Batch) {
	parts := make(map[span.TraceID][]span.Span)
	for _, x := range b.Spans {
		parts[x.TraceID] = append(parts[x.TraceID], x)
	}
	for i := range b.Spans {
		id := b.Spans[i].TraceID
		if spans := parts[id]; spans != nil {
			part := span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: spans}
			g.put(id, part.Encode(nil))
			delete(parts, id)
		}
	}
}

func (g *gathered) put(id span.TraceID, message []byte) {
	if g.bodies == nil {
		g.bodies = make(map[span.TraceID][]byte)
	}
	was, ok := g.bodies[id]
	if !ok {
		g.order = append(g.order, id)
		g.bodies[id] = message
		return
	}
	g.bodies[id] = append(was, message...)
}

// trace decodes a trace, whose memory is the batch's from then on; nil if it is not
// there.
func (g *gathered) trace(id span.TraceID) (*span.Batch, error) {
	message, ok := g.bodies[id]
	if !ok {
		return nil, nil
	}
	delete(g.bodies, id)
	b := &span.Batch{}
	if err := b.Decode(message); err != nil {
		return nil, err
	}
	once(b)
	return b, nil
}

// once drops spans that are there twice, in all they have: a storage keeps what a
// sender has sent again.
func once(b *span.Batch) {
	first := make(map[span.ID]int, len(b.Spans))
	var again map[string]bool // the spans whose ids are not of one span alone
	kept := b.Spans[:0]
	for _, x := range b.Spans {
		at, seen := first[x.ID]
		if !seen {
			first[x.ID] = len(kept)
			kept = append(kept, x)
			continue
		}
		if again == nil {
			again = make(map[string]bool)
		}
		again[content(b, kept[at])] = true
		if c := content(b, x); !again[c] {
			again[c] = true
			kept = append(kept, x)
		}
	}
	b.Spans = kept
}

func content(b *span.Batch, x span.Span) string {
	one := span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: []span.Span{x}}
	return string(one.Encode(nil))
}

// stream calls a method that answers with TracesData, and gathers until it ends or
// there is no room. The notes are those that a Weir sends.
func (s *Store) stream(ctx context.Context, call, method string, request proto.Message, found *gathered) (notes []string, err error) {
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	failed := func(err error) error { return s.failed(ctx, call, s.cfg.Endpoint, err) }
	var trailer metadata.MD
	stream, err := s.read.NewStream(limited, &grpc.StreamDesc{ServerStreams: true}, method, grpc.Trailer(&trailer))
	if err != nil {
		return nil, failed(err)
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // then RecvMsg says why
		return nil, failed(err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, failed(err)
	}
	var scratch span.Batch
	for {
		var message body
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return trailer.Get("weir-note"), nil
		}
		if err != nil {
			return nil, failed(err)
		}
		room, err := found.add(message, &scratch)
		if err != nil {
			return nil, fmt.Errorf("%s at jaeger storage %s: %w", call, s.cfg.Endpoint, err)
		}
		if !room {
			return nil, nil
		}
	}
}
