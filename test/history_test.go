//go:build linux

package test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/linearizability"
	drilltraffic "dems/client/drill/traffic"
)

const (
	// historyWindow is how long one history is: what is checked is forgotten, and its events are removed.
	historyWindow = 30 * time.Second
	// settleDeadline bounds learning what became of everything at the end of a window, and removing it.
	settleDeadline = time.Minute
)

// histories is clients that fight over few seats, whose histories are checked to be linearizable, one window after the other.
type histories struct {
	t       *testing.T
	url     string
	seed    uint64
	stop    context.CancelFunc
	running sync.WaitGroup

	windows, operations, groups int // to be read after finish
}

// startHistories begins.
func startHistories(t *testing.T, url string, seed uint64) *histories {
	h := &histories{t: t, url: url, seed: seed}
	ctx, cancel := context.WithCancel(t.Context())
	h.stop = cancel
	t.Cleanup(h.finish)
	h.running.Go(func() {
		for ctx.Err() == nil && !t.Failed() {
			h.window(ctx)
		}
	})
	return h
}

// finish ends the window that is open and waits until it was checked.
func (h *histories) finish() {
	h.stop()
	h.running.Wait()
}

// window records one history and checks it.
func (h *histories) window(ctx context.Context) {
	api, err := client.New(client.Config{Endpoints: []string{h.url}, Timeout: attemptDeadline})
	if err != nil {
		h.t.Error(err)
		return
	}
	defer api.Close()
	recorder := history.NewRecorder(0)
	traffic, err := drilltraffic.Prepare(ctx, drilltraffic.Config{API: api, Recorder: recorder, Rate: soakRate, Seed: h.seed + uint64(h.windows)})
	if err != nil {
		if ctx.Err() == nil {
			h.t.Errorf("window %d: %v", h.windows, err)
		}
		return
	}
	loading, cancel := context.WithTimeout(ctx, historyWindow)
	defer cancel()
	if err := traffic.Run(loading); err != nil {
		h.t.Errorf("window %d: %v", h.windows, err)
	}
	settling, cancelSettling := context.WithTimeout(context.WithoutCancel(ctx), settleDeadline)
	defer cancelSettling()
	if err := traffic.Settle(settling); err != nil {
		h.t.Errorf("window %d: %v", h.windows, err)
	}
	h.check(traffic, recorder.Operations())
	if err := traffic.Clear(settling); err != nil {
		h.t.Errorf("window %d: %v", h.windows, err)
	}
	h.windows++
}

func (h *histories) check(traffic *drilltraffic.Traffic, operations []history.Operation) {
	for _, found := range traffic.Findings() {
		if found.Broken > 0 {
			h.t.Errorf("window %d: %s, %d times: %q", h.windows, found.Name, found.Broken, found.Examples)
		}
	}
	if counts := traffic.Counts(); counts.Failed+counts.Unknown > 0 {
		h.t.Errorf("window %d: %+v: none should have failed", h.windows, counts)
	}
	for _, note := range traffic.Notes() {
		h.t.Errorf("window %d: %s", h.windows, note)
	}
	result := linearizability.Check(context.Background(), operations, linearizability.Options{})
	for _, violation := range result.Violations {
		h.t.Errorf("window %d: %v", h.windows, violation)
	}
	for _, undecided := range result.Undecided {
		h.t.Errorf("window %d: %v", h.windows, undecided)
	}
	for _, disorder := range linearizability.CheckSequences(operations) {
		h.t.Errorf("window %d: %v", h.windows, disorder)
	}
	if h.t.Failed() {
		h.keep(operations)
	}
	h.operations += result.Operations
	h.groups += result.Groups
}

// keep writes a history that something was found in to a file that outlives the test.
func (h *histories) keep(operations []history.Operation) {
	file, err := os.CreateTemp("", "dems-history-*.jsonl")
	if err == nil {
		err = errors.Join(history.Write(file, history.Header{Seed: h.seed, Began: time.Now()}, operations), file.Close())
	}
	h.t.Logf("window %d is kept in %s (demsctl drill check): %v", h.windows, file.Name(), err)
}
