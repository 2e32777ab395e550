package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/fsm"
	"dems/node/citylog"
	"dems/node/storage"
	"dems/transport"

	"github.com/hashicorp/raft"
)

// Node is one replica. It implements transport.Handler; its methods are safe for concurrent use.
type Node struct {
	config   Config
	logger   *slog.Logger
	raftLog  *raftLogger
	serverID raft.ServerID
	folder   *storage.Folder
	logs     *citylog.Logs
	state    *stateMachine
	metrics  *metrics
	peers    map[dems.NodeID]*transport.Replica // without this node

	raft      atomic.Pointer[raft.Raft] // nil until the node takes part
	transport *raft.NetworkTransport    // set before raft
	mended    *raftTransport            // the transport as Raft sees it; set before raft
	watchdog  *watchdog
	lookout   *lookout
	announcer *announcer
	manager   *manager
	goal      uint64 // the last entry of the log at the start that the state machine sees
	begin     uint64 // the index of the state at the start
	fresh     atomic.Bool

	work      context.Context // ends when the node is to stop or has failed: no new work is taken
	stop      context.CancelFunc
	stopped   chan struct{} // closed when Raft has ended: everything that waits returns
	ready     chan struct{} // closed when the node has caught up with what it knew before the start
	readyOnce sync.Once
	failed    chan struct{} // closed by fail
	failure   error         // why; to be read after failed is closed
	failOnce  sync.Once

	calls     gate          // calls that wait for Raft's futures
	proposals chan struct{} // one token for each proposal in flight
	forwards  chan struct{} // one token for each entry on its way to the leader for a front end
	queries   chan struct{} // one token for each query call
	backups   chan struct{} // one token for each backup that is being given
	ran       atomic.Bool   // Run was called, and closes the city logs
	closing   sync.Once
	closeErr  error
}

var _ transport.Handler = (*Node)(nil)

// storageConfig says which folder is the node's.
func (c *Config) storageConfig() storage.Config {
	return storage.Config{Dir: c.DataDir, ID: c.ID, Cities: c.Cities, Logger: c.Logger}
}

// Empty makes the data folder of a node that was removed the folder of its next incarnation, which Open opens. The node
// must have ended. What is interrupted, the next Open finishes.
func Empty(ctx context.Context, config Config, replaced *Replaced) error {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return storage.Empty(ctx, config.storageConfig(), replaced.Removal, config.Failpoint)
}

// Open checks and opens a node's data folder. Errors say what is wrong with the folder and what to do. The node does
// nothing until Run; if Run is not called, Close lets go of the folder.
func Open(ctx context.Context, config Config) (*Node, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Peers = maps.Clone(config.Peers)
	if config.Address == "" {
		config.Address = config.Peers[config.ID]
	}
	n := &Node{
		config: config, logger: config.Logger, raftLog: newRaftLogger(config.Logger), metrics: newMetrics(config.Metrics),
		stopped: make(chan struct{}), ready: make(chan struct{}), failed: make(chan struct{}),
		proposals: make(chan struct{}, config.MaxProposals), forwards: make(chan struct{}, config.MaxProposals), queries: make(chan struct{}, config.MaxQueries),
		backups: make(chan struct{}, maxBackups),
		peers:   make(map[dems.NodeID]*transport.Replica), announcer: newAnnouncer(config.peers()),
		manager:  newManager(),
		watchdog: &watchdog{limit: config.StallTimeout}, lookout: newLookout(),
	}
	n.work, n.stop = context.WithCancel(context.Background())
	var err error
	n.folder, err = storage.Open(ctx, storage.Config{
		Dir: config.DataDir, ID: config.ID, Cities: config.Cities, Logger: config.Logger, RaftLogger: n.raftLog,
		Fail: n.fail, Observe: func(took time.Duration) { n.metrics.store.Observe(took.Seconds()) },
	})
	if err != nil {
		n.stop()
		return nil, err
	}
	if err := n.openState(); err != nil {
		n.stop()
		return nil, errors.Join(err, n.folder.Close())
	}
	for _, id := range config.peers() {
		n.peers[id] = config.Endpoint.Peer(id)
	}
	n.metrics.watch(n)
	if err := n.metrics.register(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// openState restores the state from the newest snapshot and opens the city logs.
func (n *Node) openState() error {
	marker := n.folder.Marker
	n.serverID = serverID(n.config.ID, marker.Incarnation)
	n.fresh.Store(n.folder.Fresh())
	n.goal = n.folder.Extent.LastCommand
	n.state = &stateMachine{
		id: n.config.ID, incarnation: marker.Incarnation, cities: n.config.Cities, log: n.folder.Log, snapshots: n.folder.Snapshots,
		ring: newRing(), history: newHistory(historyStates), told: n.manager.told, confirm: n.confirm, metrics: n.metrics, logger: n.logger,
		fail: n.fail, failed: n.failed, ready: n.ready, machine: fsm.New(n.config.Cities), applying: make(chan struct{}, 1),
	}
	n.state.faults = newFaults(n.config.EnableFaults, n.corrupt, n.config.Endpoint)
	if meta := n.folder.Newest; meta != nil {
		machine, err := n.restore(meta)
		if err != nil {
			return fmt.Errorf("snapshot %s in %s cannot be restored: %w: replace this node", meta.ID, n.config.DataDir, err)
		}
		if origin := marker.Origin; n.folder.Fresh() && machine.Origin() != origin {
			return fmt.Errorf("data folder %s was restored from %s, but its state is %s: empty it and restore the backup again",
				n.config.DataDir, origin, machine.Origin())
		}
		n.begin = machine.Index()
		n.state.machine = machine
		n.state.history.restored(machine.Index(), machine.Digest())
		n.state.applied.advance(machine.Index())
		n.state.setConfiguration(meta.ConfigurationIndex, meta.Configuration.Servers)
	}
	if extent := n.folder.Extent; extent.ConfigurationIndex > 0 {
		n.state.remember(extent.ConfigurationIndex, extent.Configuration.Servers)
	}
	sources := make([]citylog.Source, 0, len(n.config.Peers))
	for _, id := range n.config.peers() {
		sources = append(sources, n.source(id))
	}
	var err error
	n.logs, err = citylog.Open(citylog.Config{
		Dir: filepath.Join(n.config.DataDir, storage.CityLogFolder), Cities: n.config.Cities, State: n.state, Sources: sources, Logger: n.logger,
	})
	n.state.logs = n.logs
	return err
}

func (n *Node) restore(meta *raft.SnapshotMeta) (*fsm.Machine, error) {
	_, reader, err := n.folder.Snapshots.Open(meta.ID)
	if err != nil {
		return nil, err
	}
	machine, err := fsm.Restore(reader, n.config.Cities)
	return machine, errors.Join(err, reader.Close())
}

// Close lets go of what Open opened. It is for nodes that never run; Run does it itself.
func (n *Node) Close() error {
	n.closing.Do(func() {
		n.stop()
		n.metrics.unregister()
		if !n.ran.Load() {
			n.closeErr = n.logs.Close()
		}
		for _, peer := range n.peers {
			n.closeErr = errors.Join(n.closeErr, peer.Close())
		}
		n.closeErr = errors.Join(n.closeErr, n.folder.Close())
	})
	return n.closeErr
}

// Kill makes Run end as a crash would: nothing is flushed, and leadership is not handed over. Run returns ErrKilled. It is
// for tests.
func (n *Node) Kill() { n.fail(ErrKilled) }

// fail stops the node for good: it neither answers nor votes any more, and Run returns the error. The first call counts.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure = err
		close(n.failed)
		n.logger.Error("the node stops", "error", err)
		n.stop()
	})
}

// whyFailed returns what fail was called with, nil if it was not.
func (n *Node) whyFailed() error {
	if n.hasFailed() {
		return n.failure
	}
	return nil
}

// hasFailed tells whether fail was called.
func (n *Node) hasFailed() bool { return isClosed(n.failed) }

// running returns Raft, or why nothing can be asked of it.
func (n *Node) running() (*raft.Raft, error) {
	switch {
	case n.hasFailed():
		return nil, errFailed
	case n.work.Err() != nil:
		return nil, errStopping
	}
	if r := n.raft.Load(); r != nil {
		return r, nil
	}
	return nil, errStarting
}

func (n *Node) isLeader() bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// leader returns the node that leads as far as this one knows, "" if it knows none.
func (n *Node) leader() dems.NodeID {
	r := n.raft.Load()
	if r == nil {
		return ""
	}
	address, _ := r.LeaderWithID()
	return dems.NodeID(address)
}

// replica returns a node to ask, this one included; nil for one that is not configured.
func (n *Node) replica(id dems.NodeID) transport.Handler {
	if id == n.config.ID {
		return n
	}
	if peer := n.peers[id]; peer != nil {
		return peer
	}
	return nil
}

// source is a peer as the city logs see it. The peers are not there yet when the logs are opened.
type source func(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error)

// CityLog implements citylog.Source.
func (s source) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	return s(ctx, city, first, maxBytes)
}

func (n *Node) source(id dems.NodeID) citylog.Source {
	return source(func(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
		return n.peers[id].CityLog(ctx, city, first, maxBytes)
	})
}

// isReady tells whether the node has caught up with what it knew before the start.
func (n *Node) isReady() bool { return isClosed(n.ready) }

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// gate counts calls and, once closed, lets none in.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

// start runs do on a goroutine of its own, unless the gate is closed.
func (g *gate) start(do func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Go(do)
	}
	return !g.closed
}

// close waits until everything that was started has ended, at most for a time. It returns false if that was not enough.
func (g *gate) close(atMost time.Duration) bool {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	done := make(chan struct{})
	go func() {
		g.inside.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(atMost):
		return false
	}
}
