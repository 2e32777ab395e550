package citylog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/fsm"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	mtl    = dems.City{'M', 'T', 'L'}
	cities = dems.Cities{{City: mtl, Name: "Montreal"}}
)

// line returns the record of an ordered operation or of a read.
func line(op dems.Op, number int) []byte {
	by, _ := dems.ParseUserID(fmt.Sprintf("MTLM%04d", number%10000))
	event, _ := dems.ParseEventID("MTLA100519")
	command := dems.Command{
		Op: op, Time: time.UnixMilli(int64(number)).UTC(), By: by, Customer: by, Key: `quote"\`,
		Event: dems.EventKey{Type: dems.Seminar, ID: event},
	}
	result := dems.Result{Sequence: uint64(number)}
	if op.Mutates() {
		result.Code = dems.EventFull
	}
	return fsm.AppendRecord(nil, &command, &result)
}

// state is a replicated state that counts records.
type state struct {
	mu     sync.Mutex
	lines  [][]byte
	chains []dems.Digest // after 0, 1, … records
	shown  int           // as many the state has at the moment
}

func newState(records int) *state {
	s := &state{chains: make([]dems.Digest, 1), shown: records}
	for number := range records {
		s.lines = append(s.lines, line(dems.BookEvent, number))
		s.chains = append(s.chains, fsm.ChainRecord(s.chains[number], s.lines[number]))
	}
	return s
}

func (s *state) CityLog(dems.City) (uint64, dems.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.shown), s.chains[s.shown]
}

// at makes the state one with that many records.
func (s *state) at(records int) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = records
	return s
}

// records returns the records from one number up to another.
func (s *state) records(first, end int) []fsm.Record {
	var records []fsm.Record
	for number := first; number < end; number++ {
		records = append(records, fsm.Record{City: mtl, Number: uint64(number), Line: s.lines[number]})
	}
	return records
}

// source is a peer with the records of a state. Its calls can be made to fail or to lie.
type source struct {
	state *state
	err   error
	lie   bool
	calls int
}

func (s *source) CityLog(_ context.Context, _ dems.City, first uint64, _ int) (dems.CityLogPage, error) {
	s.calls++
	if s.err != nil {
		return dems.CityLogPage{}, s.err
	}
	page := dems.CityLogPage{First: first, Total: uint64(len(s.state.lines))}
	for number := first; number < page.Total && number < first+7; number++ {
		page.Records = append(page.Records, s.state.lines[number]...)
		if s.lie && number == page.Total/2 {
			page.Records = append(page.Records[:len(page.Records)-len(s.state.lines[number])], line(dems.CancelEvent, 0)...)
		}
	}
	return page, nil
}

// running is Logs whose Run is running.
type running struct {
	*Logs
	t    *testing.T
	stop context.CancelCauseFunc
	done chan error
}

func run(t *testing.T, dir string, state State, sources ...Source) *running {
	t.Helper()
	return runWith(t, Config{Dir: dir, Cities: cities, State: state, Sources: sources}, func(*Logs) {})
}

func runWith(t *testing.T, config Config, change func(*Logs)) *running {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	logs, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	change(logs)
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &running{Logs: logs, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- logs.Run(ctx) }()
	t.Cleanup(func() { r.end(nil) })
	return r
}

// end ends Run, with ErrAbandoned as a crash would.
func (r *running) end(cause error) {
	r.t.Helper()
	r.stop(cause)
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.done <- nil
}

// synced waits until everything is durable, which includes that gaps are closed.
func (r *running) synced(state State) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	for {
		err := r.Sync(ctx, state)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrGap) {
			r.t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			r.t.Fatal("the gap stays")
		case <-time.After(time.Millisecond):
		}
	}
}

func (r *running) expect(want [][]byte) {
	r.t.Helper()
	var got []byte
	for first := uint64(0); ; {
		page, err := r.Page(mtl, first, 1000)
		if err != nil {
			r.t.Fatal(err)
		}
		if page.Total != uint64(len(want)) || page.First != first {
			r.t.Fatalf("page %d of %d, want %d of %d", page.First, page.Total, first, len(want))
		}
		if len(page.Records) == 0 {
			break
		}
		got = append(got, page.Records...)
		first += uint64(bytes.Count(page.Records, []byte{'\n'}))
	}
	if !bytes.Equal(got, bytes.Join(want, nil)) {
		r.t.Fatalf("the ordered records differ: got\n%s\nwant\n%s", got, bytes.Join(want, nil))
	}
}

func read(number int) []Read { return []Read{{mtl, line(dems.GetBookingSchedule, number)}} }

func TestOrderedRecordsAndReadsShareAFile(t *testing.T) {
	dir, state := t.TempDir(), newState(40)
	logs := run(t, dir, state.at(0))
	for number := range 40 {
		logs.Append(state.records(number, number+1))
		if err := logs.AppendReads(t.Context(), read(number)); err != nil {
			t.Fatal(err)
		}
	}
	logs.synced(state.at(40))
	logs.expect(state.lines)
	data, err := os.ReadFile(filepath.Join(dir, "MTL.log"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(data, []byte{'\n'}); lines != 80 {
		t.Fatalf("%d lines, want 80", lines)
	}
	if size := logs.Size(mtl); size != int64(len(data)) {
		t.Fatalf("size %d, want %d", size, len(data))
	}
	if _, err := logs.Page(dems.City{'X', 'X', 'X'}, 0, 1); err == nil {
		t.Fatal("a page of a city that does not exist")
	}
}

func TestPageHasAtLeastOneRecordAndAtMostWhatFits(t *testing.T) {
	state := newState(10)
	logs := run(t, t.TempDir(), state.at(0))
	logs.Append(state.records(0, 10))
	logs.synced(state.at(10))
	for _, test := range []struct {
		first    uint64
		maxBytes int
		want     int
	}{
		{0, 0, 1},
		{0, -5, 1},
		{3, 1, 1},
		{3, 2 * len(state.lines[3]), 2},
		{0, 1 << 30, 10},
		{9, 1 << 30, 1},
		{10, 1 << 30, 0},
		{1 << 60, 1 << 30, 0},
	} {
		page, err := logs.Page(mtl, test.first, test.maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(page.Records, []byte{'\n'}); got != test.want || page.Total != 10 {
			t.Errorf("first %d, %d bytes: %d records of %d, want %d", test.first, test.maxBytes, got, page.Total, test.want)
		}
	}
}

func TestCheckpointsAreUsed(t *testing.T) {
	records := 2*checkpointRecords + 100
	dir, state := t.TempDir(), newState(records)
	logs := run(t, dir, state.at(0))
	logs.Append(state.records(0, records))
	logs.end(nil)
	checkpoints := readIndex(t, dir)
	if len(checkpoints) != 3 || checkpoints[1].records != 2*checkpointRecords || checkpoints[2].records != uint64(records) {
		t.Fatalf("checkpoints %+v", checkpoints)
	}
	if checkpoints[2].sequence != uint64(records-1) || checkpoints[2].chain != state.chains[records] {
		t.Fatalf("checkpoint %+v", checkpoints[2])
	}
	again := run(t, dir, state.at(records))
	for _, first := range []int{0, checkpointRecords - 1, checkpointRecords, 2*checkpointRecords + 1} {
		page, err := again.Page(mtl, uint64(first), 1)
		if err != nil || !bytes.Equal(page.Records, state.lines[first]) {
			t.Errorf("record %d: %v, got %s", first, err, page.Records)
		}
	}
}

func TestManyReadsMakeCheckpoints(t *testing.T) {
	dir, state := t.TempDir(), newState(1)
	logs := run(t, dir, state.at(0))
	logs.Append(state.records(0, 1))
	reads := make([]Read, 1000)
	for i := range reads {
		reads[i] = read(i)[0]
	}
	for written := 0; written < 2*checkpointBytes; written += len(reads) * len(reads[0].Line) {
		if err := logs.AppendReads(t.Context(), reads); err != nil {
			t.Fatal(err)
		}
	}
	logs.end(nil)
	if checkpoints := readIndex(t, dir); len(checkpoints) < 2 || checkpoints[0].records != 1 || checkpoints[1].records != 1 {
		t.Fatalf("checkpoints %+v", checkpoints)
	}
}

func readIndex(t *testing.T, dir string) []checkpoint {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "MTL.index"))
	if err != nil {
		t.Fatal(err)
	}
	checkpoints, size := parseIndex(data, mtl)
	if size != len(data) {
		t.Fatalf("%d of %d bytes of the index are valid", size, len(data))
	}
	return checkpoints
}
