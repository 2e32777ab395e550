package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dems"
)

// clusterModel is the rules of standings once more, written to be obviously right: it keeps everything that ever happened
// and counts from end to end. It shares no code with the machine.
type clusterModel struct {
	now      time.Time // log time
	members  map[dems.NodeID]dems.Member
	nodes    map[dems.NodeID]*modelNode
	verdicts []dems.Verdict // accepted, with the log time as their time
	events   []string       // what the last entry brought about
}

type modelNode struct {
	condition   string
	incarnation uint64
	automatic   bool
	removals    []time.Time // that count
}

func newClusterModel() *clusterModel {
	return &clusterModel{members: map[dems.NodeID]dems.Member{}, nodes: map[dems.NodeID]*modelNode{}, now: time.UnixMilli(0)}
}

func (m *clusterModel) pass(t time.Time) {
	if t.After(m.now) {
		m.now = t
	}
}

func (m *clusterModel) event(kind string, node dems.NodeID, incarnation uint64) {
	m.events = append(m.events, fmt.Sprintf("%s %s.%d", kind, node, incarnation))
}

func (m *clusterModel) voter(id dems.NodeID, incarnation uint64) bool {
	member, found := m.members[id]
	return found && member.Suffrage == "voter" && member.Incarnation == incarnation
}

// change puts a node into another condition: what was found against it before counts no more.
func (m *clusterModel) change(id dems.NodeID, condition string, incarnation uint64) {
	n := m.nodes[id]
	n.condition, n.incarnation, n.automatic = condition, incarnation, false
	m.verdicts = slices.DeleteFunc(m.verdicts, func(v dems.Verdict) bool { return v.Node == id })
}

func (m *clusterModel) configure(members []dems.Member) {
	m.events = nil
	m.members = map[dems.NodeID]dems.Member{}
	for _, member := range members {
		m.members[member.ID] = member
		if m.nodes[member.ID] == nil {
			m.nodes[member.ID] = &modelNode{condition: "correct", incarnation: member.Incarnation}
		}
	}
	m.verdicts = slices.DeleteFunc(m.verdicts, func(v dems.Verdict) bool {
		return !m.voter(v.By, v.ByIncarnation) || !m.voter(v.Node, v.Incarnation)
	})
	for _, id := range sortedNodes(m.nodes) {
		n := m.nodes[id]
		member, isMember := m.members[id]
		isMember = isMember && member.Incarnation >= n.incarnation
		if slices.Contains([]string{"correct", "convicted", "rejoining"}, n.condition) && (!isMember || member.Incarnation != n.incarnation) {
			m.remove(id, n)
			isMember = isMember && member.Incarnation >= n.incarnation
		}
		if !isMember {
			continue
		}
		if n.condition == "expelled" && member.Suffrage == "nonvoter" {
			m.change(id, "rejoining", member.Incarnation)
		} else if slices.Contains([]string{"expelled", "rejoining"}, n.condition) && member.Suffrage == "voter" {
			m.change(id, "correct", member.Incarnation)
			m.event("readdition", id, member.Incarnation)
		}
	}
}

func (m *clusterModel) remove(id dems.NodeID, n *modelNode) {
	left, condition := n.incarnation, "expelled"
	if n.automatic {
		recent := 0
		for _, removed := range n.removals {
			if m.now.Sub(removed) <= time.Hour {
				recent++
			}
		}
		if recent >= 3 {
			condition = "quarantined"
		} else {
			n.removals = append(n.removals, m.now)
		}
	}
	m.change(id, condition, left+1)
	m.event("removal", id, left)
	if condition == "quarantined" {
		m.event("quarantine", id, left)
	}
}

// verdict returns whether it is accepted.
func (m *clusterModel) verdict(v dems.Verdict) bool {
	m.events = nil
	if v.By == v.Node || !m.voter(v.By, v.ByIncarnation) || !m.voter(v.Node, v.Incarnation) || m.nodes[v.Node].condition != "correct" {
		return false
	}
	now := m.now
	if v.Time.After(now) {
		now = v.Time
	}
	finders := map[dems.NodeID]bool{}
	for _, held := range m.verdicts {
		if held.Node == v.Node && now.Sub(held.Time) <= time.Minute {
			finders[held.By] = true
		}
	}
	if finders[v.By] {
		return false
	}
	m.pass(now)
	finders[v.By] = true
	v.Time = now
	m.verdicts = append(m.verdicts, v)
	m.event("verdict", v.Node, v.Incarnation)
	voters := 0
	for _, member := range m.members {
		if member.Suffrage == "voter" {
			voters++
		}
	}
	if len(finders) > 1 && len(finders) > (voters-1)/2 {
		m.change(v.Node, "convicted", v.Incarnation)
		m.nodes[v.Node].automatic = true
		m.event("conviction", v.Node, v.Incarnation)
	}
	return true
}

// replacement returns whether it is accepted.
func (m *clusterModel) replacement(r dems.Replacement) bool {
	m.events = nil
	n := m.nodes[r.Node]
	if n == nil || n.incarnation != r.Incarnation {
		return false
	}
	others := 0
	for _, other := range m.nodes {
		if slices.Contains([]string{"convicted", "expelled", "rejoining"}, other.condition) {
			others++
		}
	}
	switch {
	case n.condition == "correct" && (others == 0 || r.Automatic), n.condition == "rejoining":
		m.change(r.Node, "convicted", n.incarnation)
		n.automatic = r.Automatic
	case n.condition == "quarantined" && !r.Automatic && others == 0:
		m.change(r.Node, "expelled", n.incarnation)
		n.removals = nil
	default:
		return false
	}
	m.pass(r.Time)
	m.event("conviction", r.Node, r.Incarnation)
	return true
}

// incident returns whether it is accepted.
func (m *clusterModel) incident(i dems.Incident) bool {
	m.events = nil
	switch i.Kind.String() {
	case "verdict", "conviction", "removal", "readdition", "quarantine":
		return false
	}
	m.pass(i.Time)
	m.event(i.Kind.String(), i.Node, i.Incarnation)
	return true
}

func sortedNodes[V any](nodes map[dems.NodeID]V) []dems.NodeID {
	var ids []dems.NodeID
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b dems.NodeID) int { return cmp.Compare(a, b) })
	return ids
}
