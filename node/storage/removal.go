package storage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"dems"
)

// Removal is the proof that one incarnation of a node has left the cluster's configuration for good, and that the next one
// may take its place. Without one nothing of a node is ever deleted. ProveRemoval alone makes one.
type Removal struct {
	id          dems.NodeID
	incarnation uint64 // the one that has left
	next        uint64
	cluster     []dems.NodeID // all configured nodes, in order
	witnesses   []dems.NodeID // who says so, in order: more than half of the cluster, without the node itself
	origin      dems.Origin   // the backup that their cluster was restored from
}

// ID returns the node that was removed.
func (r *Removal) ID() dems.NodeID { return r.id }

// Incarnation returns the incarnation that has left.
func (r *Removal) Incarnation() uint64 { return r.incarnation }

// Next returns the incarnation that takes its place.
func (r *Removal) Next() uint64 { return r.next }

// Witnesses returns the nodes whose statements are the proof.
func (r *Removal) Witnesses() []dems.NodeID { return slices.Clone(r.witnesses) }

// ProveRemoval looks for the proof that an incarnation of a node has left, in what the nodes of the cluster (all that are
// configured, the node itself among them) say of themselves and of the cluster, by who says it. A majority of the cluster
// has to say the same: that one later incarnation is to come, to a cluster of the same origin. The word of the node itself
// does not count, nor does that of a node that is not ready, that answers for another one, or that has the node among the
// members: as soon as the next incarnation is one, it may have promised something. The error says who did not say so and why.
func ProveRemoval(id dems.NodeID, incarnation uint64, cluster []dems.NodeID, statuses map[dems.NodeID]dems.NodeStatus) (*Removal, error) {
	removal := &Removal{id: id, incarnation: incarnation, cluster: slices.Sorted(slices.Values(cluster))}
	said := make(map[testament][]dems.NodeID)
	var objections []string
	for _, peer := range removal.cluster {
		if peer == id {
			continue
		}
		next, objection := testimony(id, incarnation, peer, statuses)
		if objection != "" {
			objections = append(objections, fmt.Sprintf("%s %s", peer, objection))
			continue
		}
		same := testament{next, statuses[peer].Origin}
		said[same] = append(said[same], peer)
	}
	for _, same := range slices.SortedFunc(maps.Keys(said), testament.compare) {
		if witnesses := said[same]; len(witnesses) > len(removal.witnesses) {
			removal.next, removal.origin, removal.witnesses = same.next, same.origin, witnesses
		}
	}
	if err := removal.check(); err != nil {
		return nil, fmt.Errorf("no proof that incarnation %d of node %s was removed: %w (%s)", incarnation, id, err,
			strings.Join(objections, "; "))
	}
	return removal, nil
}

// testament is what witnesses have to agree on: which incarnation is to come, and to which cluster.
type testament struct {
	next   uint64
	origin dems.Origin
}

func (t testament) compare(other testament) int {
	return cmp.Or(cmp.Compare(t.next, other.next), cmp.Compare(t.origin.Index, other.origin.Index),
		bytes.Compare(t.origin.Digest[:], other.origin.Digest[:]))
}

// testimony returns which incarnation of a node is to come in the place of another one, as a peer says, or why the peer is
// no witness.
func testimony(id dems.NodeID, incarnation uint64, peer dems.NodeID, statuses map[dems.NodeID]dems.NodeStatus) (next uint64, objection string) {
	status, found := statuses[peer]
	switch {
	case !found:
		return 0, "has not answered"
	case status.ID != peer:
		return 0, fmt.Sprintf("answers as %q", status.ID)
	case !status.Ready:
		return 0, "is not ready"
	case status.Configuration == 0 || len(status.Members) == 0:
		return 0, "knows no configuration"
	}
	standings := 0
	for _, standing := range status.Standings {
		if standing.Node != id {
			continue
		}
		standings++
		if standing.Condition != dems.Expelled { // who is rejoining has a new life already, and with it new promises
			return 0, fmt.Sprintf("says that incarnation %d is %s", standing.Incarnation, standing.Condition)
		}
		if next = standing.Incarnation; next <= incarnation {
			return 0, fmt.Sprintf("says that incarnation %d is to come", next)
		}
	}
	if standings != 1 {
		return 0, fmt.Sprintf("has %d standings of it", standings)
	}
	for _, member := range status.Members {
		if member.ID == id {
			return 0, fmt.Sprintf("has incarnation %d as a member (%s)", member.Incarnation, member.Suffrage)
		}
	}
	return next, ""
}

// check makes sure that a removal proves what it says.
func (r *Removal) check() error {
	cluster := slices.Compact(slices.Clone(r.cluster))
	counted := make(map[dems.NodeID]bool)
	for _, witness := range r.witnesses {
		if witness == r.id || !slices.Contains(cluster, witness) || counted[witness] {
			return fmt.Errorf("%q does not count as a witness", witness)
		}
		counted[witness] = true
	}
	switch {
	case len(cluster) != len(r.cluster) || !slices.IsSorted(cluster) || !slices.Contains(cluster, r.id):
		return fmt.Errorf("the nodes %q are not a cluster with %s in it", r.cluster, r.id)
	case !dems.ValidName(string(r.id)) || r.incarnation == 0:
		return errors.New("it does not say of whom")
	case len(counted) <= len(cluster)/2:
		return fmt.Errorf("%d of %d nodes say so, but %d are needed", len(counted), len(cluster), len(cluster)/2+1)
	case r.next <= r.incarnation:
		return fmt.Errorf("incarnation %d cannot follow on %d", r.next, r.incarnation)
	}
	return nil
}

const (
	removalFile   = "removal.json"
	removalFormat = 1
)

// record is the content of removal.json.
type record struct {
	Format      int           `json:"format"`
	ID          dems.NodeID   `json:"id"`
	Incarnation uint64        `json:"incarnation"`
	Next        uint64        `json:"next"`
	Cluster     []dems.NodeID `json:"cluster"`
	Witnesses   []dems.NodeID `json:"witnesses"`
	Origin      dems.Origin   `json:"origin,omitzero"`
	Checksum    string        `json:"checksum"` // CRC-32C of the same text with an empty checksum
}

// encode returns the content of removal.json.
func (r *Removal) encode() ([]byte, error) {
	content := record{
		Format: removalFormat, ID: r.id, Incarnation: r.incarnation, Next: r.next, Cluster: r.cluster, Witnesses: r.witnesses,
		Origin: r.origin,
	}
	data, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return nil, err
	}
	content.Checksum = fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli))
	data, err = json.MarshalIndent(content, "", "  ")
	return append(data, '\n'), err
}

// decodeRemoval is the inverse of encode and accepts nothing else: what is not exactly what was written proves nothing.
func decodeRemoval(data []byte) (*Removal, error) {
	var content record
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	if content.Format != removalFormat {
		return nil, fmt.Errorf("it has format %d and this program knows format %d", content.Format, removalFormat)
	}
	removal := &Removal{
		id: content.ID, incarnation: content.Incarnation, next: content.Next, cluster: content.Cluster, witnesses: content.Witnesses,
		origin: content.Origin,
	}
	again, err := removal.encode()
	if err == nil && !bytes.Equal(again, data) {
		err = errors.New("it is not what was written, or has a wrong checksum")
	}
	if err == nil {
		err = removal.check()
	}
	if err != nil {
		return nil, err
	}
	return removal, nil
}
