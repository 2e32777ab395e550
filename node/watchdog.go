package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/node/storage"

	"github.com/hashicorp/raft"
)

// watchdog knows how long the write to the Raft log that is under way has lasted. It is safe for concurrent use.
type watchdog struct {
	limit time.Duration
	hold  atomic.Pointer[func()] // called within every write; tests have the disk hang with it

	mu      sync.Mutex
	writing int       // writes under way; the store does one after the other
	since   time.Time // when the first of them began, or the one before it ended
}

// write does a write under the watchdog's eyes. It also ends well where the write ends the goroutine.
func (w *watchdog) write(do func() error) error {
	w.mu.Lock()
	if w.writing++; w.writing == 1 {
		w.since = time.Now()
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.writing--
		w.since = time.Now()
		w.mu.Unlock()
	}()
	if hold := w.hold.Load(); hold != nil {
		(*hold)()
	}
	return do()
}

// stalled tells whether the disk hangs: a write has been under way for longer than the limit.
func (w *watchdog) stalled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writing > 0 && time.Since(w.since) >= w.limit
}

// watchedLog is the Raft log under the watchdog's eyes: what Raft's main loop waits for. Deleting is not watched, for
// another goroutine does that, but a write that waits for it is.
type watchedLog struct {
	*storage.Log
	watchdog *watchdog
}

// StoreLog implements raft.LogStore.
func (l watchedLog) StoreLog(entry *raft.Log) error {
	return l.watchdog.write(func() error { return l.Log.StoreLog(entry) })
}

// StoreLogs implements raft.LogStore.
func (l watchedLog) StoreLogs(entries []*raft.Log) error {
	return l.watchdog.write(func() error { return l.Log.StoreLogs(entries) })
}

// Set implements raft.StableStore.
func (l watchedLog) Set(key, value []byte) error {
	return l.watchdog.write(func() error { return l.Log.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (l watchedLog) SetUint64(key []byte, value uint64) error {
	return l.watchdog.write(func() error { return l.Log.SetUint64(key, value) })
}

// stalledLeader returns an error while this node leads as far as it knows but cannot write. It cannot step down by itself:
// the goroutine of Raft's that would do it waits for the disk.
func (n *Node) stalledLeader() error {
	if n.isLeader() && n.watchdog.stalled() {
		return replicaError(dems.NotReady, errStalled)
	}
	return nil
}

// watchDisk asks the peers to take over, again and again, while this node leads and its disk hangs. They look for
// themselves, and this node tells them what is the matter.
func (n *Node) watchDisk(ctx context.Context, r *raft.Raft) {
	ticker := time.NewTicker(n.config.StallTimeout / 10)
	defer ticker.Stop()
	stalled := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n.stalledLeader() == nil {
			stalled = false
			continue
		}
		if !stalled {
			n.logger.Error("the disk hangs; the others are asked to take over", "term", r.CurrentTerm())
		}
		stalled = true
		asked, cancel := context.WithTimeout(ctx, agreementTimeout)
		_, asking := n.ask(asked, dems.Suspicion{Leader: n.config.ID, Term: r.CurrentTerm()}, n.config.peers())
		asking.Wait()
		cancel()
	}
}
