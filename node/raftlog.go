package node

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// repeatPause is how long the same complaint of Raft is kept back after it was logged: while a peer is down, Raft
	// repeats several of them many times a second.
	repeatPause = 10 * time.Second
	// maxComplaints is how many different ones are remembered; beyond it all are forgotten.
	maxComplaints = 256
)

// raftLogger passes what Raft logs on to a slog.Logger. It implements hclog.Logger.
type raftLogger struct {
	logger    *slog.Logger
	arguments []any
	recent    *complaints
}

// complaints remembers when warnings and errors were logged last.
type complaints struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newRaftLogger(logger *slog.Logger) *raftLogger {
	return &raftLogger{logger: logger.With("component", "raft"), recent: &complaints{last: make(map[string]time.Time)}}
}

// isRepeated tells whether the same was logged a short while ago.
func (c *complaints) isRepeated(message string, arguments []any) bool {
	key := message
	for i := 0; i+1 < len(arguments); i += 2 {
		if name, ok := arguments[i].(string); ok && (name == "peer" || name == "target" || name == "server-id") {
			key += fmt.Sprint(arguments[i+1])
		}
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last[key]) < repeatPause {
		return true
	}
	if len(c.last) >= maxComplaints {
		clear(c.last)
	}
	c.last[key] = now
	return false
}

var raftLevels = map[hclog.Level]slog.Level{
	hclog.Trace: slog.LevelDebug - 4, hclog.Debug: slog.LevelDebug, hclog.Info: slog.LevelDebug,
	hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelWarn,
}

// overtaken is what a follower says when an announcement has overtaken the entry that it announces: nothing to warn of.
const overtaken = "failed to get previous log"

// Log implements hclog.Logger. What Raft calls information is for developers, and what it calls an error is mostly a
// peer that is down.
func (l *raftLogger) Log(level hclog.Level, message string, arguments ...any) {
	to := raftLevels[level]
	if message == overtaken {
		to = slog.LevelDebug
	}
	if !l.logger.Enabled(context.Background(), to) || to >= slog.LevelWarn && l.recent.isRepeated(message, arguments) {
		return
	}
	all := append(append(make([]any, 0, len(l.arguments)+len(arguments)), l.arguments...), arguments...)
	for i, argument := range all {
		if format, ok := argument.(hclog.Format); ok && len(format) > 0 {
			all[i] = fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
		}
	}
	l.logger.Log(context.Background(), to, message, all...)
}

// Trace implements hclog.Logger.
func (l *raftLogger) Trace(message string, arguments ...any) {
	l.Log(hclog.Trace, message, arguments...)
}

// Debug implements hclog.Logger.
func (l *raftLogger) Debug(message string, arguments ...any) {
	l.Log(hclog.Debug, message, arguments...)
}

// Info implements hclog.Logger.
func (l *raftLogger) Info(message string, arguments ...any) { l.Log(hclog.Info, message, arguments...) }

// Warn implements hclog.Logger.
func (l *raftLogger) Warn(message string, arguments ...any) { l.Log(hclog.Warn, message, arguments...) }

// Error implements hclog.Logger.
func (l *raftLogger) Error(message string, arguments ...any) {
	l.Log(hclog.Error, message, arguments...)
}

// IsTrace implements hclog.Logger.
func (l *raftLogger) IsTrace() bool { return l.isEnabled(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (l *raftLogger) IsDebug() bool { return l.isEnabled(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (l *raftLogger) IsInfo() bool { return l.isEnabled(hclog.Info) }

// IsWarn implements hclog.Logger.
func (l *raftLogger) IsWarn() bool { return l.isEnabled(hclog.Warn) }

// IsError implements hclog.Logger.
func (l *raftLogger) IsError() bool { return l.isEnabled(hclog.Error) }

func (l *raftLogger) isEnabled(level hclog.Level) bool {
	return l.logger.Enabled(context.Background(), raftLevels[level])
}

// ImpliedArgs implements hclog.Logger.
func (l *raftLogger) ImpliedArgs() []any { return l.arguments }

// With implements hclog.Logger.
func (l *raftLogger) With(arguments ...any) hclog.Logger {
	return &raftLogger{l.logger, append(append([]any(nil), l.arguments...), arguments...), l.recent}
}

// Name implements hclog.Logger.
func (l *raftLogger) Name() string { return "raft" }

// Named implements hclog.Logger.
func (l *raftLogger) Named(string) hclog.Logger { return l }

// ResetNamed implements hclog.Logger.
func (l *raftLogger) ResetNamed(string) hclog.Logger { return l }

// SetLevel implements hclog.Logger; the slog.Logger decides.
func (l *raftLogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *raftLogger) GetLevel() hclog.Level {
	for level := hclog.Trace; level < hclog.Error; level++ {
		if l.isEnabled(level) {
			return level
		}
	}
	return hclog.Error
}

// StandardLogger implements hclog.Logger.
func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.logger.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
