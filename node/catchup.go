package node

import (
	"context"
	"sync"
	"time"

	"dems"
)

const (
	retryPauseMin = 50 * time.Millisecond
	retryPauseMax = time.Second
)

// pause waits, longer each time, and returns false when ctx has ended.
func pause(ctx context.Context, attempt int) bool {
	duration := retryPauseMax
	if attempt < 6 {
		duration = min(retryPauseMin<<attempt, retryPauseMax)
	}
	return wait(ctx, duration)
}

// catchUp finds out when the node may answer reads. Raft does not keep the commit index, so a node starts with an older
// state than the one that it has voted with, while front ends rely on its knowledge never going back. It is ready when it
// has applied what was in its log at the start or, since the end of that log may have been cut off by a newer leader,
// when it has applied an index that the leader says covers everything acknowledged. Whichever comes first.
func (n *Node) catchUp(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() {
		if joining := n.fresh.Load() && n.folder.Marker.Incarnation > 1; joining {
			return // what it has to know is not in its own log
		}
		if n.state.applied.wait(ctx, n.goal) == nil {
			n.becomeReady()
			cancel()
		}
	})
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if index, err := n.readIndex(ctx); err == nil && n.state.applied.wait(ctx, index) == nil {
			n.becomeReady()
			cancel()
			break
		}
		pause(ctx, attempt)
	}
	group.Wait()
}

// readIndex asks the leader for an index that covers everything acknowledged.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	leader := n.replica(n.leader())
	if leader == nil {
		return 0, replicaError(dems.NotLeader, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return leader.ReadIndex(ctx)
}

func (n *Node) becomeReady() {
	n.readyOnce.Do(func() {
		close(n.ready)
		n.logger.Info("ready", "applied", n.state.applied.get())
	})
}
