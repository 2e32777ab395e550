package frontend

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dems"
)

func TestStatus(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.elect(h.node(2))
		status := h.core.Status(context.Background())
		if status.Leader != "n2" || status.Term != 2 || len(status.Nodes) != 3 {
			t.Fatalf("got %+v", status)
		}
		for i, node := range status.Nodes {
			want := NodeView{
				ID: h.w.nodes[i].id, Incarnation: 1, State: "healthy", Suffrage: dems.Voter, Applied: uint64(h.w.length()),
				Digest: h.w.nodes[i].machine.Digest(),
			}
			equal(t, want, node)
		}
	})
}

func TestStatusOfNodesThatAreNotWell(t *testing.T) {
	ready(t, 5, func(h *harness) {
		applied := uint64(h.w.length())
		time.Sleep(2 * pollInterval)
		h.w.set(h.node(2), dead)
		h.w.set(h.node(3), hanging)
		h.w.change(func() { h.node(4).unready = true })
		h.w.tell(h.node(5), lies{status: func(s *dems.NodeStatus) {
			s.Leader, s.Term, s.Applied, s.Configuration = "n5", 1<<60, 1<<60, 1<<60
			s.Members[4].Suffrage = dems.None
		}})
		started := time.Now()
		status := h.core.Status(context.Background())
		if took := time.Since(started); took > pollTimeout {
			t.Errorf("took %v", took)
		}
		if status.Leader != "n1" || status.Term != 1 {
			t.Errorf("leader %s in term %d", status.Leader, status.Term)
		}
		for i, want := range []string{"healthy", "down", "down", "down", "healthy"} {
			node := status.Nodes[i]
			if node.State != want || node.Suffrage != dems.Voter || node.ID != h.w.nodes[i].id {
				t.Errorf("got %+v, want it %s", node, want)
			}
			if i < 4 && node.Applied != applied {
				t.Errorf("%s last said that it applied %d, not %d", node.ID, applied, node.Applied)
			}
		}
	})
}

func TestStatusOfMembersThatDoNotVote(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.change(func() { h.w.addMember(h.w.addNode(), dems.Nonvoter) })
		time.Sleep(2 * pollInterval)
		h.w.change(func() { h.w.members = h.w.members[1:]; h.w.configuration = 50; h.w.leader = h.node(2) })
		time.Sleep(2 * pollInterval)
		var got []string
		for _, node := range h.core.Status(context.Background()).Nodes {
			got = append(got, fmt.Sprint(node.ID, " ", node.Suffrage))
		}
		equal(t, []string{"n1 none", "n2 voter", "n3 voter", "n4 nonvoter"}, got)
	})
}

// failed returns the names of the checks that do not pass.
func (h *harness) failed() string {
	var names []string
	for _, check := range h.core.Checks(context.Background()) {
		if check.Err != nil {
			names = append(names, check.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestChecks(t *testing.T) {
	synctest3(t, func(h *harness) {
		h.eachNode(func(n *fakeNode) { h.w.set(n, dead) })
		h.core = h.start("fe1")
		equal(t, "majority leader session cities", h.failed())
		h.eachNode(func(n *fakeNode) { h.w.set(n, up) })
		h.w.suspendLeadership()
		time.Sleep(2 * pollInterval)
		equal(t, "leader session", h.failed())
		h.w.elect(h.node(1))
		h.awaitReady(h.core)
		equal(t, "", h.failed())
		h.w.set(h.node(2), hanging)
		equal(t, "", h.failed())
		h.w.change(func() { h.node(1).unready = true })
		equal(t, "majority", h.failed())
	})
}

// synctest3 is a bubble with three nodes and no front end yet.
func synctest3(t *testing.T, body func(h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, w: newWorld(t, 3)}
		defer h.stop()
		body(h)
	})
}

func TestTransferOfLeadership(t *testing.T) {
	ready(t, 3, func(h *harness) {
		ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
		defer cancel()
		for _, to := range []dems.NodeID{"n2", "n3", "n3", ""} {
			before := h.core.Status(ctx)
			if err := h.core.Transfer(ctx, to); err != nil {
				t.Fatalf("to %q: %v", to, err)
			}
			after := h.core.Status(ctx)
			if to != "" && after.Leader != to || to == "" && after.Leader == before.Leader {
				t.Errorf("to %q: %s leads after %s", to, after.Leader, before.Leader)
			}
			h.must(addEvent(int(after.Term), 5), 50*time.Millisecond)
		}
		if err := h.core.Transfer(ctx, "n9"); dems.CodeOf(err) != dems.NotFound {
			t.Errorf("got %v", err)
		}
	})
}

func TestTransferThatFails(t *testing.T) {
	ready(t, 3, func(h *harness) {
		transfer := func(to dems.NodeID, want dems.Code) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			started := time.Now()
			if err := h.core.Transfer(ctx, to); dems.CodeOf(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if took := time.Since(started); took > time.Second {
				t.Errorf("took %v", took)
			}
		}
		h.w.set(h.node(1), hanging)
		transfer("n2", dems.Unavailable)
		h.w.retire(h.node(1), dead)
		transfer("n2", dems.Unavailable)
		h.w.elect(h.node(3)) // while somebody waits
		transfer("n2", dems.OK)
		// The leader refuses a node that the front end knows: it is no member any more.
		h.w.change(func() { h.w.nodes[2].id = "n7"; h.w.nodes[2].reach = dead })
		transfer("n3", dems.NotFound)
	})
}

// A leader says that it handed over, and did not.
func TestTransferThatDoesNotHappen(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(1), lies{transfer: true})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := h.core.Transfer(ctx, "n2"); dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("got %v", err)
		}
		if status := h.core.Status(context.Background()); status.Leader != "n1" {
			t.Errorf("%s leads", status.Leader)
		}
	})
}

func TestMetricsAreRegistered(t *testing.T) {
	registry := prometheus.NewRegistry()
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if !strings.HasPrefix(family.GetName(), "dems_frontend_") || family.GetHelp() == "" {
				t.Errorf("metric %s: %q", family.GetName(), family.GetHelp())
			}
			if name := family.GetName(); name == "dems_frontend_batch_commands" && family.Metric[0].GetHistogram().GetSampleCount() != 1 {
				t.Errorf("%s: %v", name, family.Metric)
			}
		}
		if len(families) != 10 { // those by node and kind show nothing yet
			t.Errorf("%d metrics", len(families))
		}
	}, func(c *Config) { c.Registerer = registry })
}

func (h *harness) cityLog(first uint64, within time.Duration) (dems.CityLogPage, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	started := time.Now()
	page, err := h.core.CityLog(ctx, toronto, first)
	if took := time.Since(started); took > within {
		h.t.Errorf("took %v, more than %v", took, within)
	}
	return page, err
}

// wantLog reads the whole log, page by page, and compares it with what the records of a node say.
func (h *harness) wantLog(within time.Duration) {
	h.t.Helper()
	h.w.mu.Lock()
	want := bytes.Join(h.node(1).records[toronto], nil)
	total := uint64(len(h.node(1).records[toronto]))
	h.w.mu.Unlock()
	var got []byte
	for first := uint64(0); ; {
		page, err := h.cityLog(first, within)
		if err != nil {
			h.t.Fatal(err)
		}
		if page.First != first || page.Total != total {
			h.t.Fatalf("page from %d of %d, want %d of %d", page.First, page.Total, first, total)
		}
		if len(page.Records) == 0 {
			break
		}
		got = append(got, page.Records...)
		first += uint64(bytes.Count(page.Records, []byte{'\n'}))
	}
	if !bytes.Equal(want, got) {
		h.t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestCityLogPage(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.wantLog(0)
		for i := range 10 {
			h.must(addEvent(i, 5), 0)
		}
		h.wantLog(0)
		page, err := h.cityLog(7, 0)
		if err != nil || page.First != 7 || page.Total != 10 || bytes.Count(page.Records, []byte{'\n'}) != 3 {
			t.Errorf("got %+v, %v", page, err)
		}
		if page, err := h.cityLog(99, 0); err != nil || len(page.Records) != 0 || page.First != 99 {
			t.Errorf("got %+v, %v", page, err)
		}
	})
}

func TestCityLogInPages(t *testing.T) {
	ready(t, 3, func(h *harness) {
		for range 4 { // of many refused commands, which are logged too
			var results []<-chan outcome
			for i := range 500 {
				results = append(results, h.background(addEvent(i%100, 5)))
			}
			for _, result := range results {
				h.await(result, time.Second)
			}
		}
		if page, err := h.cityLog(0, 0); err != nil || len(page.Records) > cityLogPageBytes || len(page.Records) < cityLogPageBytes/2 {
			t.Errorf("a page of %d bytes, %v", len(page.Records), err)
		}
		h.wantLog(0)
	})
}

func TestCityLogWithOneNodeNotRight(t *testing.T) {
	for name, test := range map[string]struct {
		lie    func(*dems.CityLogPage)
		change func(w *world, n *fakeNode)
	}{
		"dead":             {change: func(w *world, n *fakeNode) { w.set(n, dead) }},
		"hanging":          {change: func(w *world, n *fakeNode) { w.set(n, hanging) }},
		"late":             {change: func(w *world, n *fakeNode) { w.change(func() { n.records = map[dems.City][][]byte{} }) }},
		"nothing":          {lie: func(p *dems.CityLogPage) { *p = dems.CityLogPage{} }},
		"wrong first":      {lie: func(p *dems.CityLogPage) { p.First = 99 }},
		"small total":      {lie: func(p *dems.CityLogPage) { p.Total = 1 }},
		"huge total":       {lie: func(p *dems.CityLogPage) { p.Total = 1 << 60 }},
		"one byte altered": {lie: func(p *dems.CityLogPage) { p.Records[len(p.Records)/2]++ }},
		"half a line":      {lie: func(p *dems.CityLogPage) { p.Records = p.Records[:len(p.Records)-5] }},
		"less than a line": {lie: func(p *dems.CityLogPage) { p.Records = p.Records[:min(5, len(p.Records))] }},
		"more":             {lie: func(p *dems.CityLogPage) { p.Records = append(p.Records, "{}\n{}\n"...); p.Total += 2 }},
		"no line feeds":    {lie: func(p *dems.CityLogPage) { p.Records = bytes.ReplaceAll(p.Records, []byte{'\n'}, []byte{' '}) }},
	} {
		for number := 1; number <= 3; number++ {
			t.Run(name, func(t *testing.T) {
				ready(t, 3, func(h *harness) {
					for i := range 10 {
						h.must(addEvent(i, 5), 0)
					}
					if test.lie != nil {
						h.w.tell(h.node(number), lies{page: func(p *dems.CityLogPage) {
							if len(p.Records) > 0 {
								test.lie(p)
							}
						}})
					}
					if test.change != nil && number > 1 { // the first is what is compared with
						test.change(h.w, h.node(number))
					}
					h.wantLog(0)
				})
			})
		}
	}
}

// With one node dead, and another that is late or hands out half a line, the page has what both begin with.
func TestCityLogIsWhatAMajorityBeginsWith(t *testing.T) {
	for name, lie := range map[string]lies{
		"late":        {page: func(p *dems.CityLogPage) { *p = dems.CityLogPage{Total: 4, Records: lines(p.Records, 4)} }},
		"half a line": {page: func(p *dems.CityLogPage) { p.Records = p.Records[:len(lines(p.Records, 4))+20] }},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				for i := range 10 {
					h.must(addEvent(i, 5), 0)
				}
				h.w.set(h.node(3), hanging)
				h.w.tell(h.node(2), lie)
				page, err := h.cityLog(0, pagePatience)
				if err != nil || bytes.Count(page.Records, []byte{'\n'}) != 4 || !bytes.HasSuffix(page.Records, []byte{'\n'}) {
					t.Errorf("got %d records of %d: %v", bytes.Count(page.Records, []byte{'\n'}), page.Total, err)
				}
			})
		})
	}
}

func lines(records []byte, count int) []byte {
	return bytes.Join(bytes.SplitAfter(records, []byte{'\n'})[:count], nil)
}

func TestCityLogWithoutAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		for i := range 10 {
			h.must(addEvent(i, 5), 0)
		}
		for i, n := range h.w.nodes[:2] {
			h.w.tell(n, lies{page: func(p *dems.CityLogPage) { p.Records[3] += byte(i + 1) }})
		}
		if _, err := h.cityLog(0, 0); dems.CodeOf(err) != dems.NoMajority {
			t.Errorf("got %v", err)
		}
		h.w.set(h.node(1), dead)
		h.w.set(h.node(2), hanging)
		if _, err := h.cityLog(0, laneTimeout); dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("got %v", err)
		}
	})
	synctest3(t, func(h *harness) { // before anybody knows who votes
		h.eachNode(func(n *fakeNode) { h.w.set(n, dead) })
		h.core = h.start("fe1")
		if _, err := h.cityLog(0, 0); dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}
