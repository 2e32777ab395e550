package citylog

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dems"
)

func TestHistoryIsFetchedAndVerified(t *testing.T) {
	dir, state := t.TempDir(), newState(100)
	liar, down, late := &source{state: state, lie: true}, &source{err: errors.New("down")}, &source{state: newState(50)}
	first := run(t, dir, state.at(0))
	first.Append(state.records(0, 10))
	if err := first.AppendReads(t.Context(), read(1)); err != nil {
		t.Fatal(err)
	}
	first.end(nil)

	logs := run(t, dir, state.at(60), liar, down, late, &source{state: state})
	logs.Append(state.records(60, 70)) // while the history is on its way
	if err := logs.AppendReads(t.Context(), read(2)); err != nil {
		t.Fatal(err)
	}
	logs.synced(state.at(70))
	logs.expect(state.lines[:70])
	logs.Append(state.records(70, 100))
	logs.synced(state.at(100))
	logs.expect(state.lines)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.fetch-*")); len(left) > 0 {
		t.Fatalf("left over: %v", left)
	}
}

func TestSnapshotInstalledWhileRunning(t *testing.T) {
	state := newState(300)
	logs := run(t, t.TempDir(), state.at(0), &source{state: state})
	logs.Append(state.records(0, 5))
	logs.Restored(state.at(100))
	logs.Append(state.records(100, 120))
	logs.Restored(state.at(250)) // the gap is not closed yet, or just
	logs.Append(state.records(250, 260))
	logs.synced(state.at(260))
	logs.expect(state.lines[:260])
}

// TestDroppedRecordsAreFetched has more records come during a gap than may be held back.
func TestDroppedRecordsAreFetched(t *testing.T) {
	const total = 2000
	state := newState(total)
	blocked := make(chan struct{})
	config := Config{Dir: t.TempDir(), Cities: cities, State: state.at(10), Sources: []Source{&slow{source{state: state}, blocked}}}
	logs := runWith(t, config, func(l *Logs) { l.held = total / 3 * len(state.lines[0]) })
	for first := 10; first < total; first += 100 {
		logs.Append(state.records(first, min(first+100, total)))
	}
	if err := logs.Sync(t.Context(), state.at(total)); !errors.Is(err, ErrGap) {
		t.Fatalf("Sync with a gap: %v", err)
	}
	close(blocked)
	logs.synced(state)
	if page, err := logs.Page(mtl, uint64(total-1), 1); err != nil || !bytes.Equal(page.Records, state.lines[total-1]) {
		t.Fatalf("%v %s", err, page.Records)
	}
}

type slow struct {
	source
	blocked chan struct{}
}

func (s *slow) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	select {
	case <-s.blocked:
	case <-ctx.Done():
		return dems.CityLogPage{}, ctx.Err()
	}
	page := dems.CityLogPage{First: first, Total: uint64(len(s.state.lines))}
	for number := first; number < page.Total && len(page.Records) < maxBytes; number++ {
		page.Records = append(page.Records, s.state.lines[number]...)
	}
	return page, nil
}

// TestDamagedLogIsFetchedAnew changes a record in the part of the log that is read at the start.
func TestDamagedLogIsFetchedAnew(t *testing.T) {
	state := newState(30)
	for name, test := range map[string]struct {
		snapshot int // records of the state that the node starts with
		changed  int // the record that was changed
	}{
		"found at the start":             {30, 3},
		"found when replay reaches it":   {10, 20},
		"found when replay has its end":  {0, 3},
		"found by comparing with a peer": {30, 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			logs := run(t, dir, state.at(0))
			written := 30
			if name == "found by comparing with a peer" {
				written = 20 // the node takes over a snapshot of 30
			}
			logs.Append(state.records(0, written))
			logs.end(nil)
			data := readFile(t, dir, "MTL.log")
			at := bytes.Index(data, state.lines[test.changed])
			data[at+bytes.Index(data[at:], []byte("MTLM"))+5] ^= 1
			writeFile(t, dir, "MTL.log", data)
			if err := os.Remove(filepath.Join(dir, "MTL.index")); err != nil {
				t.Fatal(err)
			}
			again := run(t, dir, state.at(test.snapshot), &source{state: state})
			again.Append(state.records(test.snapshot, 30))
			again.synced(state.at(30))
			again.expect(state.lines)
			if got := readFile(t, dir, "MTL.log.damaged"); !bytes.Equal(got, data) {
				t.Fatal("the damaged log is gone")
			}
		})
	}
}

// TestEveryPeerIsAsked has one peer only that can help, at each place among the others.
func TestEveryPeerIsAsked(t *testing.T) {
	state := newState(20)
	for peers := 1; peers <= 4; peers++ {
		for place := range peers {
			sources := make([]Source, peers)
			for i := range sources {
				sources[i] = &source{err: errors.New("down")}
			}
			sources[place] = &source{state: state}
			logs := run(t, t.TempDir(), state, sources...)
			logs.synced(state)
			logs.expect(state.lines)
		}
	}
}

// TestWrongPeerDoesNotCostTheLog has one peer that is wrong while the other is down: what the node has is right and stays.
func TestWrongPeerDoesNotCostTheLog(t *testing.T) {
	dir, state := t.TempDir(), newState(40)
	first := run(t, dir, state.at(0))
	first.Append(state.records(0, 10))
	first.end(nil)
	returning := &returning{source: source{state: state}, tried: make(chan struct{}), back: make(chan struct{})}
	logs := run(t, dir, state.at(40), &source{state: state, lie: true}, returning)
	for range 4 { // each time between two questions to the wrong one
		select {
		case <-returning.tried:
		case <-time.After(10 * time.Second):
			t.Fatal("the other peer is not asked")
		}
	}
	if page, err := logs.Page(mtl, 0, MaxPageBytes); err != nil || !bytes.Equal(page.Records, bytes.Join(state.lines[:10], nil)) {
		t.Fatalf("%v, %d records are left of 10", err, page.Total)
	}
	close(returning.back)
	logs.synced(state)
	logs.expect(state.lines)
	if _, err := os.Stat(filepath.Join(dir, "MTL.log.damaged")); err == nil {
		t.Fatal("the log was put aside")
	}
}

// returning is a peer that is down until it is back.
type returning struct {
	source
	tried, back chan struct{}
}

func (r *returning) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	select {
	case r.tried <- struct{}{}:
		return dems.CityLogPage{}, errors.New("down")
	case <-r.back:
		return r.source.CityLog(ctx, city, first, maxBytes)
	case <-ctx.Done():
		return dems.CityLogPage{}, ctx.Err()
	}
}

func TestMalformedPagesAreRefused(t *testing.T) {
	state := newState(20)
	for name, page := range map[string]dems.CityLogPage{
		"other record": {First: 1, Total: 20, Records: state.lines[1]},
		"nothing":      {First: 0, Total: 20},
		"half a line":  {First: 0, Total: 20, Records: state.lines[0][:10]},
		"no record":    {First: 0, Total: 20, Records: []byte("{}\n")},
		"a read":       {First: 0, Total: 20, Records: line(dems.GetEvent, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			logs := run(t, t.TempDir(), state.at(20), fixed(page), &source{state: state})
			logs.synced(state)
			logs.expect(state.lines)
		})
	}
}

type fixed dems.CityLogPage

func (f fixed) CityLog(context.Context, dems.City, uint64, int) (dems.CityLogPage, error) {
	return dems.CityLogPage(f), nil
}

func TestGapStaysWhileNobodyHasTheRecords(t *testing.T) {
	state := newState(20)
	dir := t.TempDir()
	logs := run(t, dir, state.at(20), &source{err: errors.New("down")})
	if err := logs.Sync(t.Context(), state); !errors.Is(err, ErrGap) {
		t.Fatalf("Sync: %v", err)
	}
	logs.end(nil)
	if checkpoints := readIndex(t, dir); len(checkpoints) > 0 {
		t.Fatalf("checkpoints %+v", checkpoints)
	}
}
