package drill

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/client"
)

const (
	// lookInterval is how often the cluster is looked at while a round is under way, quietInterval otherwise.
	lookInterval  = 20 * time.Millisecond
	quietInterval = 200 * time.Millisecond
	// lookTimeout bounds one look. A front end itself waits half a second for nodes that do not answer.
	lookTimeout = 3 * time.Second
)

// api is what a drill asks of front ends. A client.Client is one.
type api interface {
	ClusterStatus(ctx context.Context) (*client.ClusterView, error)
	Incidents(ctx context.Context, from uint64) (*client.IncidentList, error)
	InjectFault(ctx context.Context, id dems.NodeID, fault dems.Fault) (*client.Injected, error)
	EndFaults(ctx context.Context) (*client.FaultsEnded, error)
	TransferLeadership(ctx context.Context, to dems.NodeID) (*client.Transferred, error)
	ReplaceNode(ctx context.Context, id dems.NodeID) (*client.Replacing, error)
}

// watch looks at the cluster again and again: at the nodes, and at the incidents, each for itself, because a look at nodes waits
// for those that are dead. Its methods are safe for concurrent use.
type watch struct {
	api    api
	clock  func() time.Duration // since the drill began
	urgent atomic.Bool          // a round is under way

	mu      sync.Mutex
	seen    sight
	changed chan struct{} // closed, and replaced, when anything was seen
}

func newWatch(api api, clock func() time.Duration) *watch {
	return &watch{api: api, clock: clock, changed: make(chan struct{})}
}

// begin takes in everything that happened before.
func (w *watch) begin(ctx context.Context) error {
	list, err := w.api.Incidents(ctx, 0)
	if err != nil {
		return err
	}
	w.update(func(s *sight) {
		if len(list.Incidents) > 0 {
			s.before = list.Incidents[len(list.Incidents)-1].Sequence
		}
	})
	return w.look(ctx)
}

// run looks until the context ends.
func (w *watch) run(ctx context.Context) {
	var group sync.WaitGroup
	for _, look := range []func(context.Context) error{w.look, w.hear} {
		group.Go(func() { w.repeat(ctx, look) })
	}
	group.Wait()
}

// repeat looks until the context ends. A look that fails is made again: that nobody answers is what drills are about.
func (w *watch) repeat(ctx context.Context, look func(context.Context) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, lookTimeout)
		_ = look(limited)
		cancel()
		interval := quietInterval
		if w.urgent.Load() {
			interval = lookInterval
		}
		timer.Reset(interval)
	}
}

// look looks at the nodes.
func (w *watch) look(ctx context.Context) error {
	asked := w.clock()
	view, err := w.api.ClusterStatus(ctx)
	if err != nil {
		return err
	}
	w.update(func(s *sight) { s.takeView(view, asked, w.clock()) })
	return nil
}

// hear looks at what happened.
func (w *watch) hear(ctx context.Context) error {
	var from uint64
	w.read(func(s *sight) { from = s.last() + 1 })
	list, err := w.api.Incidents(ctx, from)
	if err != nil {
		return err
	}
	w.update(func(s *sight) { s.takeIncidents(list.Incidents, w.clock()) })
	return nil
}

// update changes what was seen, and wakes who waits for something.
func (w *watch) update(change func(*sight)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.seen)
	close(w.changed)
	w.changed = make(chan struct{})
}

// read reads what was seen.
func (w *watch) read(read func(*sight)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	read(&w.seen)
}

// missed is that something did not happen which has to.
type missed struct {
	of     invariant
	what   string
	limit  time.Duration
	reason string
}

// Error implements error.
func (m *missed) Error() string {
	text := fmt.Sprintf("not within %v: %s", m.limit, m.what)
	if m.reason != "" {
		text += " (" + m.reason + ")"
	}
	return text
}

// await waits until what was seen is as wanted: problem returns why it is not, "" when it is. After the limit it returns a missed
// of an invariant; when the context ends, why that did.
func (w *watch) await(ctx context.Context, limit time.Duration, of invariant, what string, problem func(*sight) string) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		w.mu.Lock()
		reason, changed := problem(&w.seen), w.changed
		w.mu.Unlock()
		if reason == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return &missed{of: of, what: what, limit: limit, reason: reason}
		case <-changed:
		}
	}
}
