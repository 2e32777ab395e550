package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

// bootstrap writes the cluster's first configuration into an empty data folder: all configured nodes as voters, the same
// on every node. A folder that was restored from a backup is as good as empty, if all nodes' are. Before that it asks the
// peers whether this node has been a member before. Then its folder is not new but lost, and with it entries that it has
// promised to keep: it must not come back as if nothing had been. A majority of the nodes, this one included, has to have no
// objection; until then it keeps asking.
func (n *Node) bootstrap(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		clear, err := n.hasNoPast(ctx)
		if err != nil {
			return err
		}
		if clear >= n.config.majority() {
			break
		}
		if attempt%10 == 3 { // not at once: nodes of a new cluster start together
			n.logger.Info("waiting for peers before joining with an empty data folder",
				"answers", clear, "needed", n.config.majority())
		}
		if !pause(ctx, attempt) {
			return ctx.Err()
		}
	}
	var configuration raft.Configuration
	ids := append(n.config.peers(), n.config.ID)
	slices.Sort(ids)
	for _, id := range ids {
		configuration.Servers = append(configuration.Servers, raft.Server{
			Suffrage: raft.Voter, ID: serverID(id, 1), Address: raft.ServerAddress(id),
		})
	}
	origin := n.folder.Marker.Origin
	err := n.protected(func() error {
		if origin != (dems.Origin{}) {
			return n.folder.Descend(configuration)
		}
		return raft.BootstrapCluster(n.raftConfig(), n.folder.Log, n.folder.Log, n.folder.Snapshots, nil, configuration)
	})
	if err != nil {
		return fmt.Errorf("write the first configuration: %w", err)
	}
	if origin == (dems.Origin{}) {
		n.state.remember(1, configuration.Servers)
	} else { // two entries were written; with the first, the node lets go of the old cluster and may answer
		n.goal = origin.Index + 1
		n.state.remember(origin.Index+2, configuration.Servers)
		n.logger.Info("begins a cluster that was restored from a backup", "index", origin.Index, "digest", origin.Digest)
	}
	n.fresh.Store(false)
	return nil
}

// grace is how much longer peers are waited for when enough have answered: one of the others may know better.
const grace = 300 * time.Millisecond

// hasNoPast counts the nodes, this one included, that do not know of an earlier life of this node. A peer that does is an
// error.
func (n *Node) hasNoPast(ctx context.Context) (clear int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	peers := n.config.peers()
	answers := make(chan error, len(peers))
	for _, id := range peers {
		go func() { answers <- n.askPast(ctx, id) }()
	}
	clear = 1
	for range peers { // all of them answer: ctx ends their calls
		switch answer := <-answers; {
		case answer == nil:
			if clear++; clear == n.config.majority() {
				defer time.AfterFunc(grace, cancel).Stop()
			}
		case errors.Is(answer, errLostData), errors.Is(answer, errOtherOrigin):
			err = answer
		default:
			n.logger.Debug("asking whether this node has been a member", "error", answer)
		}
	}
	return clear, err
}

// errLostData means that this node has been a member before and lost what it knew.
var errLostData = errors.New("the data folder is empty, but this node has been a member before")

// askPast asks one peer whether it knows of an earlier life of this node: nil means no. A peer that knows a leader is
// asked for what is certain, a registry that covers everything acknowledged.
func (n *Node) askPast(ctx context.Context, id dems.NodeID) error {
	status, err := n.peers[id].Status(ctx)
	if err != nil {
		return err
	}
	if status.Origin != n.folder.Marker.Origin {
		return n.otherOrigin(id, status.Origin)
	}
	if status.Fresh && status.Incarnation == 1 {
		return nil // a later incarnation without data means that there is a cluster, of which it knows nothing
	}
	index := uint64(0)
	if leader := n.peers[status.Leader]; leader != nil {
		if index, err = leader.ReadIndex(ctx); err != nil {
			return err
		}
	}
	registry, err := n.registryOf(ctx, id, index)
	if err != nil {
		return err
	}
	for _, registered := range registry.Nodes {
		if registered.ID == string(n.config.ID) {
			return fmt.Errorf("%w, says %s: registered at %s as incarnation %d: start it with its old data folder %s, or "+
				"replace this node", errLostData, id, registered.Time, registered.Incarnation, n.config.DataDir)
		}
	}
	if status.Configuration > 0 && !slices.ContainsFunc(status.Members, func(m dems.Member) bool { return m.ID == n.config.ID }) {
		return fmt.Errorf("%w, says %s: it is no longer in the cluster's configuration: replace this node", errLostData, id)
	}
	return nil
}

// errOtherOrigin means that this node and others were not restored from the same backup. They could have the same entries in
// their logs and not the same state.
var errOtherOrigin = errors.New("the nodes of a cluster are all restored from the same backup, or none is")

// otherOrigin says who comes from where, and what to do.
func (n *Node) otherOrigin(who any, theirs dems.Origin) error {
	return fmt.Errorf("%w: %v comes from %s, and data folder %s from %s: restore the same backup into an empty folder for each "+
		"node, or start this one with an empty folder and replace it", errOtherOrigin, who, theirs, n.config.DataDir, n.folder.Marker.Origin)
}

// checkOrigin returns an error if a majority of the cluster, which does not take this node for one of its own, comes from
// elsewhere. Raft has nothing to do with them, but people should know why the node does not take part.
func (n *Node) checkOrigin(statuses map[dems.NodeID]dems.NodeStatus) error {
	said := make(map[dems.Origin][]dems.NodeID)
	for _, id := range n.config.peers() {
		if status, found := statuses[id]; found && status.Origin != n.folder.Marker.Origin {
			said[status.Origin] = append(said[status.Origin], id)
		}
	}
	for theirs, who := range said {
		if len(who) >= n.config.majority() {
			return n.otherOrigin(who, theirs)
		}
	}
	return nil
}
