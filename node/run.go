package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dems"
	"dems/node/citylog"
	"dems/node/storage"

	"github.com/hashicorp/raft"
)

const (
	// logCacheEntries is how many of the last log entries are kept in memory for followers and for applying.
	logCacheEntries = 512
	// appendEntries is how many entries Raft sends or appends together.
	appendEntries = 256
	// raftConnections is how many idle streams are kept to each peer.
	raftConnections = 4
	// drainTimeout bounds waiting for proposals when the node stops. Raft settles all of them sooner than that.
	drainTimeout = 10 * time.Second
)

// Run serves until ctx ends or the node fails, and then stops in this order: new work is refused; leadership is handed
// over; proposals in flight are settled; Raft ends, and with it its part of the endpoint; vote streams and background work
// end; the city logs are made durable; the data folder is let go of. It returns nil or why the node failed: a write that
// failed, an entry that could not be applied, a registration that was refused. After that the process should exit. It may
// be called once.
func (n *Node) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, n.stop)()
	n.ran.Store(true)
	logs, endLogs := context.WithCancelCause(context.Background())
	var writing, background sync.WaitGroup
	writing.Go(func() {
		if err := n.logs.Run(logs); err != nil {
			n.fail(storage.WriteError("city log", n.config.DataDir, err))
		}
	})
	background.Go(func() {
		select {
		case <-n.config.Endpoint.Failed():
			n.fail(errors.New("the UDP socket failed: nothing reaches this node any more"))
		case <-n.work.Done():
		}
	})
	n.config.Endpoint.Serve(n.handler())
	if err := n.join(n.work); err != nil && n.work.Err() == nil {
		n.fail(err)
	}
	if r := n.raft.Load(); r != nil {
		n.startBackground(r, &background)
	}
	<-n.work.Done()

	if _, replaced := errors.AsType[*Replaced](n.whyFailed()); replaced || errors.Is(n.whyFailed(), ErrKilled) {
		endLogs(citylog.ErrAbandoned)
	}
	n.handOver()
	if !n.calls.close(drainTimeout) {
		n.logger.Error("proposals are still in flight; stopping without them")
	}
	if r := n.raft.Load(); r != nil {
		ending := r.Shutdown()
		_ = n.transport.Close() // always nil; Raft would first wait for every message to a dead peer to time out
		_ = ending.Error()      // always nil
	}
	close(n.stopped)
	background.Wait()
	endLogs(nil)
	writing.Wait()
	err := n.Close()
	if n.hasFailed() {
		return n.failure
	}
	return err
}

// join makes the node a member: a node without a past first makes sure that it has none, then Raft starts. The next
// incarnation of one that was removed waits for the leader to add it.
func (n *Node) join(ctx context.Context) error {
	if n.fresh.Load() && n.folder.Marker.Incarnation == 1 {
		err := n.bootstrap(ctx)
		isEmpty := n.folder.Marker.Origin == dems.Origin{}
		if (errors.Is(err, errLostData) || errors.Is(err, errOtherOrigin) && isEmpty) && n.awaitReplacement(ctx) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return n.startRaft()
}

// startBackground starts what runs beside Raft until the node stops.
func (n *Node) startBackground(r *raft.Raft, group *sync.WaitGroup) {
	for _, peer := range n.config.peers() {
		group.Go(func() { n.announceTo(n.work, r, peer) })
	}
	for _, peer := range n.config.peers() {
		group.Go(func() { n.watchVotes(n.work, peer, n.peers[peer]) })
	}
	group.Go(func() { n.watchVotes(n.work, n.config.ID, ownVotes{n, n}) })
	group.Go(func() { n.judge(n.work) })
	group.Go(func() { n.auditState(n.work) })
	group.Go(func() { n.replace(n.work, r) })
	group.Go(func() { n.learn(n.work) })
	group.Go(func() { n.recordIncidents(n.work) })
	group.Go(func() { n.watchHealth(n.work) })
	n.startLookout(r, group)
	group.Go(func() { n.watchLeader(n.work, r) })
	group.Go(func() { n.catchUp(n.work) })
	group.Go(func() {
		if err := n.register(n.work); err != nil {
			n.fail(err)
		}
	})
}

func (n *Node) raftConfig() *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = n.serverID
	config.HeartbeatTimeout = n.config.HeartbeatTimeout
	config.ElectionTimeout = n.config.HeartbeatTimeout
	config.LeaderLeaseTimeout = n.config.LeaderLease
	config.CommitTimeout = n.config.CommitTimeout
	config.MaxAppendEntries = appendEntries
	config.SnapshotInterval = n.config.SnapshotInterval
	config.SnapshotThreshold = n.config.SnapshotThreshold
	config.TrailingLogs = n.config.TrailingLogs
	config.ShutdownOnRemove = false
	config.NoSnapshotRestoreOnStart = true // Open has done it: where Raft fails, it falls back to an older snapshot
	config.NoLegacyTelemetry = true
	config.Logger = n.raftLog
	return config
}

// startRaft starts Raft. It writes the term, which may fail; a failing write ends the goroutine.
func (n *Node) startRaft() error {
	layer := n.config.Endpoint.RaftLayer(n.folder.Marker.Incarnation, n.folder.Marker.Origin)
	if name := layer.Addr().String(); name != string(n.config.ID) {
		return errors.Join(fmt.Errorf("the endpoint's certificate is for %s, not for node %s", name, n.config.ID), layer.Close())
	}
	n.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, ServerAddressProvider: dialled{}, MaxPool: raftConnections, Timeout: n.config.RaftTimeout, Logger: n.raftLog, MsgpackUseNewTimeFormat: true,
	})
	n.mended = newRaftTransport(n.transport, n.watchdog.stalled)
	log := watchedLog{n.folder.Log, n.watchdog}
	cache, err := raft.NewLogCache(logCacheEntries, log)
	if err != nil {
		return errors.Join(err, n.transport.Close())
	}
	err = n.protected(func() error {
		r, err := raft.NewRaft(n.raftConfig(), n.state, cache, log, n.folder.Snapshots, n.mended)
		if err == nil {
			n.raft.Store(r)
		}
		return err
	})
	if err != nil {
		return errors.Join(err, n.transport.Close())
	}
	return nil
}

// protected runs what may write to the Raft log on a goroutine of its own, as storage.Log demands.
func (n *Node) protected(do func() error) error {
	err := errFailed // unless do returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = do()
	}()
	<-done
	return err
}

// handOver hands leadership over, so that nobody has to wait for an election. A node that has failed asks Raft for
// nothing any more.
func (n *Node) handOver() {
	r := n.raft.Load()
	if r == nil || n.hasFailed() || r.State() != raft.Leader || len(n.config.Peers) == 1 {
		return
	}
	done := make(chan error, 1)
	if !n.calls.start(func() { done <- r.LeadershipTransfer().Error() }) {
		return
	}
	select {
	case err := <-done:
		if err != nil {
			n.logger.Warn("leadership could not be handed over", "error", err)
		}
	case <-time.After(4 * n.config.HeartbeatTimeout):
		n.logger.Warn("leadership could not be handed over in time")
	}
}

// watchLeader logs who leads, and has it recorded when this node begins to.
func (n *Node) watchLeader(ctx context.Context, r *raft.Raft) {
	changes := make(chan raft.Observation, 16)
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-changes:
			if leader := change.Data.(raft.LeaderObservation).LeaderAddr; leader != "" {
				n.logger.Info("leader changed", "leader", leader, "term", r.CurrentTerm())
			}
			if change.Data.(raft.LeaderObservation).LeaderID == n.serverID {
				n.note(dems.Incident{
					Kind: dems.LeaderChangeIncident, Node: n.config.ID, Incarnation: n.folder.Marker.Incarnation,
					By: string(n.config.ID), Detail: fmt.Sprintf("leads in term %d", r.CurrentTerm()),
				}, "")
			}
		}
	}
}
