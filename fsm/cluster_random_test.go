package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"dems"
)

// TestStandingsAgainstModel applies random configurations, verdicts, replacements, incidents and batches to two machines and
// to the model. After every entry the three agree, and the digest is that of the records. One of the machines is now and
// then replaced by one restored from a snapshot.
func TestStandingsAgainstModel(t *testing.T) {
	const entries = 40_000 / slowdown
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c := newClusterComparison(t, seed)
			for range entries / 4 {
				c.step()
			}
			for _, kind := range dems.IncidentKinds() {
				if c.incidents[kind.String()] < entries/4/2000 {
					t.Errorf("%s happened only %d times", kind, c.incidents[kind.String()])
				}
			}
			if c.refused < entries/100 || c.restored < 10 {
				t.Errorf("%d refused, %d restored", c.refused, c.restored)
			}
		})
	}
}

// clusterComparison is two machines and the model that are given the same entries.
type clusterComparison struct {
	t         *testing.T
	random    *rand.Rand
	model     *clusterModel
	first     *Machine
	second    *Machine
	index     uint64
	batch     uint64
	now       time.Time
	members   []dems.Member
	all       []dems.Incident
	newest    map[dems.NodeID]uint64 // incarnation
	incidents map[string]int
	refused   int
	restored  int
}

const comparedIncidents = 50 // how many the machines remember

func newClusterComparison(t *testing.T, seed uint64) *clusterComparison {
	c := &clusterComparison{
		t: t, random: rand.New(rand.NewPCG(seed, 2)), model: newClusterModel(), first: New(dems.DefaultCities()),
		second: New(dems.DefaultCities()), now: testTime, newest: map[dems.NodeID]uint64{}, incidents: map[string]int{},
	}
	c.first.limits.incidents, c.second.limits.incidents = comparedIncidents, comparedIncidents
	c.apply(&dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: testSession}})
	c.configure(configuration("n1 n2 n3"))
	return c
}

func (c *clusterComparison) step() {
	c.now = c.now.Add(time.Duration(c.random.IntN(20_000)) * time.Millisecond)
	if c.random.IntN(10) == 0 { // somebody's clock is not right
		c.now = c.now.Add(time.Duration(c.random.IntN(20)-8) * time.Minute)
	}
	switch roll := c.random.IntN(100); {
	case roll < 30:
		c.configure(c.nextMembers())
	case roll < 65:
		v := dems.Verdict{Node: c.node(), By: c.node(), Time: c.now, Index: c.index, Expected: "this", Answered: "that"}
		v.Incarnation, v.ByIncarnation = c.incarnation(v.Node), c.incarnation(v.By)
		for v.By == v.Node && c.random.IntN(20) != 0 {
			v.By = c.node()
			v.ByIncarnation = c.incarnation(v.By)
		}
		applied := c.apply(&dems.Entry{Kind: dems.VerdictEntry, Verdict: v})
		c.compare(applied, c.model.verdict(v))
	case roll < 75:
		r := dems.Replacement{Node: c.node(), By: "fe1", Cause: "because", Automatic: c.random.IntN(4) != 0, Time: c.now}
		r.Incarnation = c.incarnation(r.Node)
		applied := c.apply(&dems.Entry{Kind: dems.ReplacementEntry, Replacement: r})
		c.compare(applied, c.model.replacement(r))
	case roll < 85:
		kinds := dems.IncidentKinds()
		incident := dems.Incident{Kind: kinds[c.random.IntN(len(kinds))], Time: c.now, Node: c.node(), Incarnation: 1, By: "n1"}
		applied := c.apply(&dems.Entry{Kind: dems.IncidentEntry, Incident: incident})
		c.compare(applied, c.model.incident(incident))
	default:
		c.batch++
		command := add("TORM0001", "seminar", "TORM100519", 1+uint32(c.random.IntN(9)))
		command.Time = c.now
		c.apply(&dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: testSession, Number: c.batch, Commands: []dems.Command{command}}})
		c.model.pass(c.now)
	}
	if c.random.IntN(25) == 0 {
		c.restore()
	}
	if c.random.IntN(500) == 0 {
		c.descend()
	}
}

// nextMembers returns a configuration that is one sensible change from the last one, or any at all.
func (c *clusterComparison) nextMembers() []dems.Member {
	members := slices.Clone(c.members)
	if c.random.IntN(40) == 0 {
		members = nil
		for id := range 5 {
			if c.random.IntN(3) != 0 {
				members = append(members, dems.Member{ID: dems.NodeID(fmt.Sprintf("n%d", id+1)), Suffrage: c.suffrage(),
					Incarnation: 1 + c.random.Uint64N(c.newest[dems.NodeID(fmt.Sprintf("n%d", id+1))]+2)})
			}
		}
		return members
	}
	id := c.node()
	at := slices.IndexFunc(members, func(m dems.Member) bool { return m.ID == id })
	known := c.model.nodes[id]
	switch {
	case at < 0 && known != nil:
		members = append(members, dems.Member{ID: id, Incarnation: known.incarnation, Suffrage: c.suffrage()})
	case at < 0:
		members = append(members, dems.Member{ID: id, Incarnation: 1, Suffrage: dems.Voter})
	case members[at].Suffrage == dems.Nonvoter && c.random.IntN(5) != 0:
		members[at].Suffrage = dems.Voter
	case known.condition == "convicted" || c.random.IntN(10) == 0:
		members = slices.Delete(members, at, at+1)
	}
	return members
}

func (c *clusterComparison) suffrage() dems.Suffrage {
	return []dems.Suffrage{dems.Voter, dems.Nonvoter}[c.random.IntN(2)]
}

func (c *clusterComparison) node() dems.NodeID {
	return dems.NodeID(fmt.Sprintf("n%d", 1+min(c.random.IntN(5), c.random.IntN(5))))
}

// incarnation returns, mostly, the one that a node has or that is to come.
func (c *clusterComparison) incarnation(id dems.NodeID) uint64 {
	incarnation := max(1, c.newest[id])
	if member := c.first.cluster.member(id); member != nil && c.random.IntN(10) != 0 {
		incarnation = member.Incarnation
	}
	if c.random.IntN(20) == 0 {
		incarnation++
	}
	return incarnation
}

// descend has a new cluster begin with the state.
func (c *clusterComparison) descend() {
	c.t.Helper()
	applied := c.apply(&dems.Entry{Kind: dems.RestoreEntry, Origin: c.first.Origin()})
	now := c.model.now
	c.model, c.members, c.newest = newClusterModel(), nil, map[dems.NodeID]uint64{}
	c.model.now = now
	c.compare(applied, true)
	c.apply(&dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: testSession}})
}

func (c *clusterComparison) configure(members []dems.Member) {
	c.t.Helper()
	c.index++
	first, err := c.first.ApplyConfiguration(c.index, members)
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Reverse(members) // their order is nothing
	second, err := c.second.ApplyConfiguration(c.index, members)
	if err != nil {
		c.t.Fatal(err)
	}
	c.same(first, second)
	c.members = members
	c.model.configure(members)
	c.compare(first, true)
}

func (c *clusterComparison) apply(entry *dems.Entry) Applied {
	c.t.Helper()
	c.index++
	data := dems.AppendEntry(nil, entry)
	before := c.first.Snapshot()
	first, err := c.first.Apply(c.index, data)
	if err != nil {
		c.t.Fatal(err)
	}
	second, err := c.second.Apply(c.index, data)
	if err != nil {
		c.t.Fatal(err)
	}
	c.same(first, second)
	if before.Recompute() != before.Digest() {
		c.t.Fatalf("entry %d changed a snapshot", c.index)
	}
	if frozen := &before.frozen.cluster; first.Refused != "" && frozen.recompute() != c.first.cluster.recompute() {
		c.t.Fatalf("entry %d was refused and changed the state", c.index)
	}
	return first
}

func (c *clusterComparison) same(first, second Applied) {
	c.t.Helper()
	if !reflect.DeepEqual(first, second) {
		c.t.Fatalf("at %d the machines differ:\n%+v\n%+v", c.index, first, second)
	}
	if computed := c.first.Recompute(); computed != first.StateDigest || computed != c.first.Digest() {
		c.t.Fatalf("at %d the digest is %s and its records have %s", c.index, first.StateDigest, computed)
	}
	if err := c.first.CheckInvariants(); err != nil {
		c.t.Fatalf("at %d: %v", c.index, err)
	}
}

// compare compares what an entry did with what it does by the model, and keeps count.
func (c *clusterComparison) compare(applied Applied, accepted bool) {
	c.t.Helper()
	if accepted != (applied.Refused == "") {
		c.t.Fatalf("at %d: refused with %q, accepted by the model: %t", c.index, applied.Refused, accepted)
	}
	if !accepted {
		c.refused++
	}
	var events []string
	for _, incident := range applied.Incidents {
		events = append(events, fmt.Sprintf("%s %s.%d", incident.Kind, incident.Node, incident.Incarnation))
		c.incidents[incident.Kind.String()]++
	}
	if !slices.Equal(events, c.model.events) {
		c.t.Fatalf("at %d %v happened, by the model %v", c.index, events, c.model.events)
	}
	c.all = append(c.all, applied.Incidents...)
	c.all = c.all[max(0, len(c.all)-comparedIncidents):]
	if held := c.first.Incidents(0); !slices.Equal(held, c.all) {
		c.t.Fatalf("at %d there are %v, and not %v", c.index, held, c.all)
	}
	var standings []string
	for _, s := range c.first.Standings() {
		standings = append(standings, fmt.Sprintf("%s %s %d", s.Node, s.Condition, s.Incarnation))
		if s.Incarnation < c.newest[s.Node] {
			c.t.Fatalf("at %d %s goes back from incarnation %d to %d", c.index, s.Node, c.newest[s.Node], s.Incarnation)
		}
		c.newest[s.Node] = s.Incarnation
	}
	var want []string
	for _, id := range sortedNodes(c.model.nodes) {
		want = append(want, fmt.Sprintf("%s %s %d", id, c.model.nodes[id].condition, c.model.nodes[id].incarnation))
	}
	if !slices.Equal(standings, want) {
		c.t.Fatalf("at %d %v, by the model %v", c.index, standings, want)
	}
}

// restore puts a machine restored from a snapshot into the place of the second.
func (c *clusterComparison) restore() {
	c.t.Helper()
	written := snapshotBytes(c.t, c.first.Snapshot())
	restored, err := Restore(bytes.NewReader(written), c.first.Cities())
	if err != nil {
		c.t.Fatal(err)
	}
	if restored.Digest() != c.first.Digest() || !bytes.Equal(snapshotBytes(c.t, restored.Snapshot()), written) {
		c.t.Fatalf("at %d another state was restored", c.index)
	}
	if !slices.Equal(restored.Members(), c.first.Members()) || !slices.Equal(restored.Standings(), c.first.Standings()) {
		c.t.Fatalf("at %d the members were not restored", c.index)
	}
	restored.limits.incidents = comparedIncidents
	c.second = restored
	c.restored++
}
