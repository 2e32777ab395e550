package storage

import (
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dems"
)

// three is a cluster of three nodes, of which n1 is the one that these tests remove.
func three() []dems.NodeID { return []dems.NodeID{"n1", "n2", "n3"} }

// statement is what a node says after n1 has left and incarnation 2 of it is to come.
func statement(by dems.NodeID, next uint64) dems.NodeStatus {
	return dems.NodeStatus{
		ID: by, Incarnation: 1, Ready: true, Applied: 90, Configuration: 80,
		Members: []dems.Member{{ID: "n2", Incarnation: 1, Suffrage: dems.Voter}, {ID: "n3", Incarnation: 1, Suffrage: dems.Voter}},
		Standings: []dems.Standing{
			{Node: "n1", Incarnation: next, Condition: dems.Expelled}, {Node: "n2", Incarnation: 1}, {Node: "n3", Incarnation: 1},
		},
	}
}

func statements(next uint64, by ...dems.NodeID) map[dems.NodeID]dems.NodeStatus {
	all := make(map[dems.NodeID]dems.NodeStatus)
	for _, id := range by {
		all[id] = statement(id, next)
	}
	return all
}

// proof is that n1 has left as an incarnation and comes back as the next.
func proof(t testing.TB, incarnation, next uint64) *Removal {
	t.Helper()
	removal, err := ProveRemoval("n1", incarnation, three(), statements(next, "n2", "n3"))
	if err != nil {
		t.Fatal(err)
	}
	return removal
}

func TestRemovalIsProvenByAMajority(t *testing.T) {
	removal := proof(t, 1, 2)
	if removal.ID() != "n1" || removal.Incarnation() != 1 || removal.Next() != 2 || !slices.Equal(removal.Witnesses(), []dems.NodeID{"n2", "n3"}) {
		t.Errorf("%+v", removal)
	}
	rejoining := statements(4, "n2", "n3")
	for id, status := range rejoining {
		status.Standings[0].Condition = dems.Rejoining
		status.Members = append(status.Members, dems.Member{ID: "n1", Incarnation: 4, Suffrage: dems.Nonvoter})
		rejoining[id] = status
	}
	if removal, err := ProveRemoval("n1", 1, three(), rejoining); err == nil {
		t.Errorf("the next incarnation has begun to live, and another folder would take its place: %+v", removal)
	}
	five := append(three(), "n5", "n4")
	mixed := statements(2, "n2", "n3", "n5")
	mixed["n4"] = statement("n4", 3) // further than the others, or wrong
	if removal, err := ProveRemoval("n1", 1, five, mixed); err != nil || removal.Next() != 2 || len(removal.Witnesses()) != 3 {
		t.Errorf("%+v %v", removal, err)
	}
}

// TestRemovalThatIsNotProven has each of the ways in which what the nodes say is no proof.
func TestRemovalThatIsNotProven(t *testing.T) {
	for name, test := range map[string]struct {
		change func(statuses map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus)))
		want   string
	}{
		"one does not answer": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			delete(all, "n3")
		}, "n3 has not answered"},
		"none answers": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			clear(all)
		}, "0 of 3 nodes say so, but 2 are needed"},
		"the node itself says so": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			delete(all, "n3")
			all["n1"] = statement("n1", 2)
		}, "n3 has not answered"},
		"a stranger says so": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			delete(all, "n3")
			all["n9"] = statement("n9", 2)
		}, "n3 has not answered"},
		"one says it twice": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			all["n3"] = all["n2"]
		}, `n3 answers as "n2"`},
		"the node says it for another": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			all["n3"] = statement("n1", 2)
		}, `n3 answers as "n1"`},
		"one is not ready": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Ready = false })
		}, "n2 is not ready"},
		"one knows no members": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Members = nil })
		}, "n2 knows no configuration"},
		"one knows no configuration": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Configuration = 0 })
		}, "n2 knows no configuration"},
		"one knows nothing of it": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Standings = s.Standings[1:] })
		}, "n2 has 0 standings of it"},
		"one knows two things of it": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Standings = append(s.Standings, s.Standings[0]) })
		}, "n2 has 2 standings of it"},
		"it is still a voter": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) {
				s.Members = append(s.Members, dems.Member{ID: "n1", Incarnation: 1, Suffrage: dems.Voter})
			})
		}, "n2 has incarnation 1 as a member (voter)"},
		"it is still a nonvoter": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) {
				s.Members = append(s.Members, dems.Member{ID: "n1", Incarnation: 1, Suffrage: dems.Nonvoter})
			})
		}, "n2 has incarnation 1 as a member (nonvoter)"},
		"its incarnation as a member is not told": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) {
				s.Members = append(s.Members, dems.Member{ID: "n1", Suffrage: dems.Nonvoter})
			})
		}, "n2 has incarnation 0 as a member"},
		"the next is a voter already": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) {
				s.Members = append(s.Members, dems.Member{ID: "n1", Incarnation: 2, Suffrage: dems.Voter})
			})
		}, "n2 has incarnation 2 as a member (voter)"},
		"the same incarnation": {func(_ map[dems.NodeID]dems.NodeStatus, change func(dems.NodeID, func(*dems.NodeStatus))) {
			change("n2", func(s *dems.NodeStatus) { s.Standings[0].Incarnation = 1 })
		}, "n2 says that incarnation 1 is to come"},
		"each says another incarnation": {func(all map[dems.NodeID]dems.NodeStatus, _ func(dems.NodeID, func(*dems.NodeStatus))) {
			all["n3"] = statement("n3", 3)
		}, "1 of 3 nodes say so"},
	} {
		t.Run(name, func(t *testing.T) {
			all := statements(2, "n2", "n3")
			test.change(all, func(id dems.NodeID, change func(*dems.NodeStatus)) {
				status := all[id]
				change(&status)
				all[id] = status
			})
			refuse(t, "n1", 1, three(), all, test.want)
		})
	}
	for _, condition := range []dems.Condition{dems.Correct, dems.Convicted, dems.Quarantined} {
		all := statements(2, "n2", "n3")
		all["n3"].Standings[0].Condition = condition
		refuse(t, "n1", 1, three(), all, "n3 says that incarnation 2 is "+condition.String())
	}
}

// refuse makes sure that something is no proof, and that the error says why.
func refuse(t *testing.T, id dems.NodeID, incarnation uint64, cluster []dems.NodeID, statuses map[dems.NodeID]dems.NodeStatus, want string) {
	t.Helper()
	removal, err := ProveRemoval(id, incarnation, cluster, statuses)
	if err == nil || removal != nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v, %v\nwant %q", removal, err, want)
	}
}

func TestRemovalFromAnImpossibleCluster(t *testing.T) {
	all := statements(2, "n1", "n2", "n3", "n4", "n5")
	refuse(t, "n1", 1, []dems.NodeID{"n2", "n3", "n4"}, all, "not a cluster with n1 in it")
	refuse(t, "n1", 1, []dems.NodeID{"n1", "n2", "n2"}, all, "does not count")
	refuse(t, "n1", 1, []dems.NodeID{"n1", "n1", "n2", "n3"}, all, "not a cluster")
	refuse(t, "n1", 1, []dems.NodeID{"n1"}, all, "0 of 1 nodes")
	refuse(t, "n1", 1, []dems.NodeID{"n1", "n2"}, all, "1 of 2 nodes say so, but 2 are needed")
	refuse(t, "n1", 0, three(), all, "does not say of whom")
	refuse(t, "N 1", 1, append(three(), "N 1"), all, "0 standings")
	four := append(three(), "n4")
	refuse(t, "n1", 1, four, statements(2, "n2", "n3"), "2 of 4 nodes say so, but 3 are needed")
	if _, err := ProveRemoval("n1", 1, four, statements(2, "n2", "n3", "n4")); err != nil {
		t.Error(err)
	}
}

func TestRemovalFileIsReadBack(t *testing.T) {
	removal := proof(t, 3, 7)
	data, err := removal.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeRemoval(data)
	if err != nil || again.id != "n1" || again.incarnation != 3 || again.next != 7 || !slices.Equal(again.cluster, three()) ||
		!slices.Equal(again.witnesses, removal.witnesses) {
		t.Fatalf("%+v %v", again, err)
	}
	golden := filepath.Join("testdata", removalFile)
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != string(data) {
		t.Errorf("%v; %s is now\n%s", err, golden, data)
	}
}

// TestRemovalFileThatProvesNothing changes every byte, cuts it everywhere, and forges what would have a right checksum.
func TestRemovalFileThatProvesNothing(t *testing.T) {
	data, err := proof(t, 1, 2).encode()
	if err != nil {
		t.Fatal(err)
	}
	for at := range data {
		changed := slices.Clone(data)
		for bit := range 8 {
			changed[at] = data[at] ^ 1<<bit
			if removal, err := decodeRemoval(changed); err == nil {
				t.Errorf("byte %d as %q: %+v", at, changed[at], removal)
			}
		}
		if removal, err := decodeRemoval(data[:at]); err == nil {
			t.Errorf("cut to %d bytes: %+v", at, removal)
		}
	}
	for want, removal := range map[string]*Removal{
		"cannot follow":       {id: "n1", incarnation: 2, next: 2, cluster: three(), witnesses: three()[1:]},
		"1 of 3 nodes":        {id: "n1", incarnation: 1, next: 2, cluster: three(), witnesses: three()[1:2]},
		"does not count":      {id: "n1", incarnation: 1, next: 2, cluster: three(), witnesses: three()},
		"not a cluster":       {id: "n9", incarnation: 1, next: 2, cluster: three(), witnesses: three()},
		"nodes [] are not":    {},
		`"n9" does not count`: {id: "n1", incarnation: 1, next: 2, cluster: three(), witnesses: []dems.NodeID{"n2", "n9"}},
	} {
		forged, err := removal.encode()
		if err != nil {
			t.Fatal(err)
		}
		if removal, err := decodeRemoval(forged); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v %v, want %q", removal, err, want)
		}
	}
	newer := strings.Replace(string(data), `"format": 1`, `"format": 2`, 1)
	if _, err := decodeRemoval([]byte(newer)); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Error(err)
	}
}

// FuzzRemoval makes sure that whatever is read as a proof is one and is exactly what would be written.
func FuzzRemoval(f *testing.F) {
	for _, removal := range []*Removal{proof(f, 1, 2), proof(f, 3, 1000), {id: "n1"}} {
		data, err := removal.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		removal, err := decodeRemoval(resealed(data))
		if err != nil {
			return
		}
		if 2*len(removal.witnesses) <= len(removal.cluster) || len(removal.cluster) < 3 || slices.Contains(removal.witnesses, removal.id) ||
			removal.next <= removal.incarnation || removal.incarnation == 0 {
			t.Fatalf("%+v is no proof", removal)
		}
		if again, err := removal.encode(); err != nil || string(again) != string(resealed(data)) {
			t.Fatalf("%s\nbecame\n%s, %v", resealed(data), again, err)
		}
	})
}

// resealed gives changed content the checksum that belongs to it, so that the fuzzer gets behind it.
func resealed(data []byte) []byte {
	const key = `"checksum": "`
	head, rest, found := strings.Cut(string(data), key)
	_, tail, ended := strings.Cut(rest, `"`)
	if !found || !ended {
		return data
	}
	unsealed := head + key + `"` + strings.TrimSuffix(tail, "\n")
	sum := strconv.FormatUint(uint64(crc32.Checksum([]byte(unsealed), castagnoli))|1<<32, 16)[1:]
	return []byte(head + key + sum + `"` + tail)
}
