package ingest

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapToSlog has the receiver, which logs by zap, log where we do.
type zapToSlog struct{ log *slog.Logger }

// Enabled implements zapcore.LevelEnabler.
func (z zapToSlog) Enabled(l zapcore.Level) bool {
	return z.log.Enabled(context.Background(), slogLevel(l))
}

// With implements zapcore.Core.
func (z zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return zapToSlog{z.log.With(slogArgs(fields)...)}
}

// Check implements zapcore.Core.
func (z zapToSlog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !z.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, z)
}

// Write implements zapcore.Core.
func (z zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	z.log.Log(context.Background(), slogLevel(e.Level), e.Message, slogArgs(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (zapToSlog) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l < zapcore.InfoLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

func slogArgs(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	args := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		f.AddTo(m)
		args = append(args, f.Key, m.Fields[f.Key])
	}
	return args
}
