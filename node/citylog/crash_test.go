package citylog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dems"
)

// TestRestartAfterCrash cuts the log anywhere after its last durable record, with and without garbage behind the cut, and
// replays records from the snapshot on: what is there must not be written twice, what is missing must be written again.
func TestRestartAfterCrash(t *testing.T) {
	const snapshot, total = 20, 40
	state := newState(total)
	image := t.TempDir()
	logs := run(t, image, state.at(0))
	for number := range total {
		logs.Append(state.records(number, number+1))
		if err := logs.AppendReads(t.Context(), read(number)); err != nil {
			t.Fatal(err)
		}
		if number+1 == snapshot {
			logs.synced(state.at(snapshot))
		}
	}
	logs.end(nil)
	data, index := readFile(t, image, "MTL.log"), readFile(t, image, "MTL.index")
	durable := readIndex(t, image)[0]
	if durable.records != snapshot {
		t.Fatalf("checkpoint %+v", durable)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		cut := int(durable.offset) + random.IntN(len(data)-int(durable.offset)+1)
		torn := append([]byte(nil), data[:cut]...)
		var sources []Source // needed where the damage does not show before the replay
		switch round % 5 {
		case 1:
			torn = append(torn, make([]byte, random.IntN(5000))...)
		case 2:
			torn = append(torn, bytes.Repeat([]byte("{\"op\":\n"), 3)...)
		case 3:
			if cut > int(durable.offset) {
				torn[int(durable.offset)+random.IntN(cut-int(durable.offset))] ^= 0x80
			}
		case 4:
			if cut > int(durable.offset) {
				torn[int(durable.offset)+random.IntN(cut-int(durable.offset))] ^= 1
			}
			sources = []Source{&source{state: state}}
		}
		dir := t.TempDir()
		writeFile(t, dir, "MTL.log", torn)
		lines := bytes.SplitAfter(index, []byte{'\n'})
		writeFile(t, dir, "MTL.index", append(bytes.Join(lines[:2], nil), lines[2][:random.IntN(len(lines[2]))]...))
		again := run(t, dir, state.at(snapshot), sources...)
		again.Append(state.records(snapshot, total))
		again.synced(state.at(total))
		again.expect(state.lines)
		again.end(nil)
	}
}

func TestAbandonedLogLosesOnlyWhatReplayBringsBack(t *testing.T) {
	dir, state := t.TempDir(), newState(30)
	logs := run(t, dir, state.at(0))
	logs.Append(state.records(0, 10))
	logs.synced(state.at(10))
	logs.Append(state.records(10, 20))
	logs.end(ErrAbandoned)
	if err := logs.AppendReads(t.Context(), read(1)); !errors.Is(err, ErrStopped) {
		t.Fatalf("after the end: %v", err)
	}
	again := run(t, dir, state.at(10))
	again.Append(state.records(10, 30))
	again.synced(state.at(30))
	again.expect(state.lines)
}

func TestIndexThatDoesNotFitTheLog(t *testing.T) {
	state := newState(9)
	image := t.TempDir()
	logs := run(t, image, state.at(0))
	for end := 3; end <= 9; end += 3 {
		logs.Append(state.records(end-3, end))
		logs.synced(state.at(end))
	}
	logs.end(nil)
	data, index := readFile(t, image, "MTL.log"), readFile(t, image, "MTL.index")
	for name, test := range map[string]struct{ log, index []byte }{
		"no index":           {data, nil},
		"index of nothing":   {data, []byte("something else\n")},
		"index of a city":    {data, bytes.Replace(index, []byte("MTL"), []byte("TOR"), 1)},
		"flipped bit":        {data, flip(index, len(index)/2)},
		"shorter log":        {data[:len(data)/2], index},
		"no log":             {nil, index},
		"line twice":         {data, append(index, index[len(index)/2:]...)},
		"half a line":        {data, index[:len(index)-5]},
		"everything as was":  {data, index},
		"both of them empty": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, dir, "MTL.log", test.log)
			writeFile(t, dir, "MTL.index", test.index)
			again := run(t, dir, state.at(0))
			again.Append(state.records(0, 9))
			again.synced(state.at(9))
			again.expect(state.lines)
			again.end(nil)
			readIndex(t, dir)
			if got := readFile(t, dir, "MTL.log"); !bytes.Equal(got, data) {
				t.Fatalf("got\n%s\nwant\n%s", got, data)
			}
		})
	}
}

func TestFullDiskEndsRun(t *testing.T) {
	dir, state := t.TempDir(), newState(3)
	if err := os.Symlink("/dev/full", filepath.Join(dir, "MTL.log")); err != nil {
		t.Fatal(err)
	}
	logs, err := Open(Config{Dir: dir, Cities: cities, State: state.at(0), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- logs.Run(context.Background()) }()
	logs.Append(state.records(0, 3))
	if err := <-done; !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Run: %v", err)
	}
	logs.Append(state.records(0, 3)) // does not block
	if err := logs.Sync(t.Context(), state); !errors.Is(err, ErrStopped) {
		t.Fatalf("Sync: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "MTL.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	index := t.TempDir()
	if err := os.Mkdir(filepath.Join(index, "MTL.index"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file": file, "a folder as a log": folder, "a folder as an index": index} {
		if _, err := Open(Config{Dir: dir, Cities: cities, State: newState(0), Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLines(t *testing.T) {
	booking, schedule := line(dems.BookEvent, 7), line(dems.GetBookingSchedule, 8)
	if !valid(booking) || !valid(schedule) || !Ordered(booking) || Ordered(schedule) || sequence(schedule) != 8 {
		t.Fatalf("%s %s", booking, schedule)
	}
	for _, text := range []string{"", "\n", "{}\n", "{}", `{"op":"bookEvent"}`, "x" + string(booking), string(booking[1:]),
		string(booking[:len(booking)-1]), string(bytes.Repeat(booking, 2)), `{"time":1,"op":"bookEvent` + "\n",
		`{"x":"` + string(make([]byte, maxLineBytes)) + `"}` + "\n"} {
		if valid([]byte(text)) {
			t.Errorf("%.100q counts as whole", text)
		}
	}
	for _, text := range []string{"", `,"op":"`, `,"op":"bookEvent`, `,"op":"unknown"`, `,"seq":9`} {
		if Ordered([]byte(text)) || sequence([]byte(text)) != 0 && text != `,"seq":9` {
			t.Errorf("%q counts as ordered", text)
		}
	}
}

// FuzzIndex shows that nothing but what save writes counts as a checkpoint, whatever is in the file.
func FuzzIndex(f *testing.F) {
	header := indexHeader + "MTL\n"
	f.Add([]byte(header))
	f.Add([]byte{})
	f.Add(checkpoint{records: 5, chain: dems.Digest{1, 2}, sequence: 7, offset: 900}.appendLine([]byte(header)))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkpoints, size := parseIndex(data, mtl)
		if size == 0 {
			return
		}
		again := []byte(header)
		for _, c := range checkpoints {
			again = c.appendLine(again)
		}
		if !bytes.Equal(again, data[:size]) {
			t.Fatalf("read %q, which is %q", data[:size], again)
		}
	})
}

func flip(data []byte, at int) []byte {
	flipped := append([]byte(nil), data...)
	flipped[at] ^= 1
	return flipped
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if data == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
