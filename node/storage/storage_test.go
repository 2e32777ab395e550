package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dems"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		emptyAndWait(dir)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// failures notes what was reported to Config.Fail.
type failures struct {
	mu  sync.Mutex
	all []error
}

func (f *failures) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

func config(dir string) Config {
	return Config{
		Dir: dir, ID: "n1", Cities: dems.DefaultCities(), Logger: slog.New(slog.DiscardHandler),
		RaftLogger: hclog.NewNullLogger(), Fail: func(error) {},
	}
}

func mustOpen(t *testing.T, config Config) *Folder {
	t.Helper()
	folder, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func mustClose(t *testing.T, folder *Folder) {
	t.Helper()
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
}

// command returns a log entry that can be decoded.
func command(index uint64) *raft.Log {
	by, _ := dems.ParseUserID("TORM0001")
	data := dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: 1, Number: index, Commands: []dems.Command{
		{Op: dems.ListEventAvailability, Time: time.UnixMilli(1), By: by, Key: strings.Repeat("k", 100), Event: dems.EventKey{Type: dems.Seminar}},
	}}})
	return &raft.Log{Index: index, Term: 2, Type: raft.LogCommand, Data: data, AppendedAt: time.UnixMilli(5)}
}

// fill writes a configuration, commands up to an index, a term and a vote.
func fill(t *testing.T, folder *Folder, first, last uint64) {
	t.Helper()
	var entries []*raft.Log
	for index := first; index <= last; index++ {
		entry := command(index)
		if index == 1 {
			entry = &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{
				Servers: []raft.Server{{ID: "n1.1", Address: "n1"}},
			})}
		}
		entries = append(entries, entry)
	}
	if err := errors.Join(
		folder.Log.StoreLogs(entries),
		folder.Log.SetUint64([]byte(keyTerm), 2),
		folder.Log.SetUint64([]byte(keyVoteTerm), 2),
		folder.Log.Set([]byte(keyVote), []byte("n1")),
	); err != nil {
		t.Fatal(err)
	}
}

// snapshotAt writes a snapshot with an index.
func snapshotAt(t *testing.T, folder *Folder, index uint64) string {
	t.Helper()
	return snapshotOf(t, folder, index, 2)
}

func snapshotOf(t *testing.T, folder *Folder, index, term uint64) string {
	t.Helper()
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "n1.1", Address: "n1"}}}
	_, transport := raft.NewInmemTransport("n1")
	sink, err := folder.Snapshots.Create(1, index, term, configuration, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(sink, "the state at index %d", index); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

func TestFolderRemembersWhoseItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	folder := mustOpen(t, config(dir))
	if !folder.Fresh() || folder.Marker.Incarnation != 1 || folder.Newest != nil {
		t.Fatalf("%+v", folder)
	}
	mustClose(t, folder)
	folder = mustOpen(t, config(dir)) // still fresh: nothing was written
	if !folder.Fresh() {
		t.Fatalf("%+v", folder)
	}
	fill(t, folder, 1, 5)
	mustClose(t, folder)

	folder = mustOpen(t, config(dir))
	want := Extent{First: 1, Last: 5, LastCommand: 5, ConfigurationIndex: 1, Term: 2, voted: true}
	got := folder.Extent
	if len(got.Configuration.Servers) != 1 || folder.Fresh() {
		t.Fatalf("%+v", folder)
	}
	got.Configuration = raft.Configuration{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	var entry raft.Log
	if err := folder.Log.GetLog(3, &entry); err != nil || entry.Extensions != nil || string(entry.Data) != string(command(3).Data) {
		t.Fatalf("%v %+v", err, entry)
	}
	if err := folder.Log.GetLog(6, &entry); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatal(err)
	}
	if vote, err := folder.Log.Get([]byte(keyVote)); err != nil || string(vote) != "n1" {
		t.Fatalf("%q %v", vote, err)
	}
	if _, err := folder.Log.Get([]byte("absent")); err == nil || err.Error() != "not found" { // Raft compares the text
		t.Fatal(err)
	}
	mustClose(t, folder)
}

func TestFolderOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, config(dir)))
	other := config(dir)
	other.ID = "n2"
	expect(t, other, "belongs to node n1, not to n2")
	cities := config(dir)
	cities.Cities = cities.Cities[:2]
	expect(t, cities, "the cities of a cluster do not change")
	for text, want := range map[string]string{
		`{"format":2,"id":"n1","incarnation":1}`:                                "format 2",
		`{"format":1,"id":"n1","cities":"MTL=Montreal,OTW=Ottawa,TOR=Toronto"}`: "no incarnation",
		`{"format":1,`: "is damaged",
		``:             "is damaged",
	} {
		write(t, filepath.Join(dir, markerFile), text)
		expect(t, config(dir), want)
	}
}

// expect makes sure that a folder is refused with a text, and nothing is left open.
func expect(t *testing.T, config Config, want string) {
	t.Helper()
	folder, err := Open(t.Context(), config)
	if err == nil {
		mustClose(t, folder)
		t.Fatalf("opened; want an error with %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Fatalf("%v\nwant %q in it", err, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolderThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	expect(t, config(filepath.Join(dir, "file")), "is not a folder")
	expect(t, config(filepath.Join(dir, "file", "below")), "data folder")
	folder := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, logFile), 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, config(folder), "is not a file")
}

// TestFolderThatCannotBeWritten takes the right to write away: root, who needs no rights, gets a read-only mount.
func TestFolderThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, config(dir)))
	if os.Getuid() == 0 {
		if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("root needs the right to mount: %v", err)
		}
		defer syscall.Unmount(dir, syscall.MNT_DETACH)
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
			t.Skipf("root needs the right to mount: %v", err)
		}
		expect(t, config(dir), "cannot be written: read-only file system")
		return
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	expect(t, config(dir), "cannot be written: permission denied")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, config(dir))
	fill(t, first, 1, 3)
	unfinished := filepath.Join(dir, snapshotFolder, "2-3-1.tmp")
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), config(dir))
	if !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	if _, err := os.Stat(unfinished); err != nil {
		t.Fatal("the snapshot that the first is writing was removed")
	}
	mustClose(t, first)
	mustClose(t, mustOpen(t, config(dir)))
}

func TestOpenEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	folder := mustOpen(t, config(dir))
	fill(t, folder, 1, 5)
	mustClose(t, folder)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, config(dir)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestCrashWhileTheFolderIsMade leaves what each step of making a folder leaves, if the next does not come.
func TestCrashWhileTheFolderIsMade(t *testing.T) {
	t.Run("raft.db without node.json", func(t *testing.T) {
		dir := t.TempDir()
		mustClose(t, mustOpen(t, config(dir)))
		remove(t, filepath.Join(dir, markerFile))
		write(t, filepath.Join(dir, markerFile+".tmp"), "half")
		folder := mustOpen(t, config(dir))
		if !folder.Fresh() {
			t.Fatal("not fresh")
		}
		mustClose(t, folder)
	})
	t.Run("raft.db of no bytes without node.json", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, logFile), "")
		mustClose(t, mustOpen(t, config(dir)))
	})
	t.Run("a term without the first entry", func(t *testing.T) {
		dir := t.TempDir()
		folder := mustOpen(t, config(dir))
		if err := folder.Log.SetUint64([]byte(keyTerm), 1); err != nil {
			t.Fatal(err)
		}
		mustClose(t, folder)
		folder = mustOpen(t, config(dir))
		term, err := folder.Log.GetUint64([]byte(keyTerm))
		if !folder.Fresh() || term != 0 || err != nil {
			t.Fatalf("%+v, term %d, %v", folder, term, err)
		}
		mustClose(t, folder)
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsMissing removes parts of a folder that has a log from 1 to 20 and a snapshot at 10.
func TestWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"node.json":          {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, markerFile)) }, "no node.json"},
		"raft.db":            {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, logFile)) }, "is missing"},
		"content of raft.db": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, logFile), "") }, "is empty"},
		"snapshots, and the log begins later": {func(t *testing.T, dir string) {
			compact(t, dir, 1, 8)
			remove(t, filepath.Join(dir, snapshotFolder))
		}, "snapshots are missing"},
		"entries between snapshot and log": {func(t *testing.T, dir string) { compact(t, dir, 1, 12) }, "snapshots are missing"},
		"entries in the middle of the log": {func(t *testing.T, dir string) { compact(t, dir, 15, 16) }, "corrupt at index 15: log not found"},
		"all entries and the snapshots": {func(t *testing.T, dir string) {
			compact(t, dir, 1, 20)
			remove(t, filepath.Join(dir, snapshotFolder))
		}, "its log is lost"},
		"the term of the snapshot": {func(t *testing.T, dir string) {
			folder := mustOpen(t, config(dir))
			if err := folder.Log.SetUint64([]byte(keyTerm), 1); err != nil {
				t.Fatal(err)
			}
			mustClose(t, folder)
		}, "not this node's log"},
		"meta.json of the snapshot": {func(t *testing.T, dir string) { damageSnapshot(t, dir, "meta.json", true) }, "is damaged"},
		"state of the snapshot":     {func(t *testing.T, dir string) { damageSnapshot(t, dir, "state.bin", true) }, "is damaged"},
		"a byte of the snapshot":    {func(t *testing.T, dir string) { damageSnapshot(t, dir, "state.bin", false) }, "is damaged"},
		"name of the snapshot": {func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, snapshotFolder, "something"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is no snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := mustOpen(t, config(dir))
			fill(t, folder, 1, 20)
			snapshotAt(t, folder, 10)
			mustClose(t, folder)
			mustClose(t, mustOpen(t, config(dir)))
			test.change(t, dir)
			expect(t, config(dir), test.want)
			expect(t, config(dir), test.want) // trying again changes nothing
		})
	}
}

// TestLogThatContradictsTheSnapshot has a log that goes on beyond a snapshot with entries of a leader that was replaced.
func TestLogThatContradictsTheSnapshot(t *testing.T) {
	dir := t.TempDir()
	folder := mustOpen(t, config(dir))
	fill(t, folder, 1, 20)
	if contradicts, err := folder.Log.Contradicts(&raft.SnapshotMeta{Index: 10, Term: 2}); contradicts || err != nil {
		t.Fatalf("the same term: %v %v", contradicts, err)
	}
	if contradicts, err := folder.Log.Contradicts(&raft.SnapshotMeta{Index: 30, Term: 3}); contradicts || err != nil {
		t.Fatalf("beyond the log: %v %v", contradicts, err)
	}
	if err := folder.Log.SetUint64([]byte(keyTerm), 3); err != nil {
		t.Fatal(err)
	}
	snapshotOf(t, folder, 10, 3)
	mustClose(t, folder)
	for range 2 { // the second time there is nothing to remove
		folder = mustOpen(t, config(dir))
		last, err := folder.Log.LastIndex()
		if err != nil || last != 0 || folder.Extent.Last != 0 || folder.Extent.LastCommand != 0 || folder.Fresh() || folder.Newest.Index != 10 {
			t.Fatalf("last %d, %+v, %v", last, folder.Extent, err)
		}
		mustClose(t, folder)
	}
	folder = mustOpen(t, config(dir))
	next := command(11)
	next.Term = 3
	if err := folder.Log.StoreLog(next); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	folder = mustOpen(t, config(dir))
	if folder.Extent.First != 11 || folder.Extent.LastCommand != 11 {
		t.Fatalf("%+v", folder.Extent)
	}
	mustClose(t, folder)
}

// compact deletes entries.
func compact(t *testing.T, dir string, first, last uint64) {
	t.Helper()
	folder := mustOpen(t, config(dir))
	if err := folder.Log.DeleteRange(first, last); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
}

// damageSnapshot removes a file of the newest snapshot or flips a bit in it.
func damageSnapshot(t *testing.T, dir, name string, whole bool) {
	t.Helper()
	all, err := findSnapshots(dir)
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	path := filepath.Join(dir, snapshotFolder, all[0].id, name)
	if whole {
		remove(t, path)
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	write(t, path, string(data))
}

func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	folder := mustOpen(t, config(dir))
	fill(t, folder, 1, 30)
	older, newest := snapshotAt(t, folder, 10), snapshotAt(t, folder, 20)
	mustClose(t, folder)
	write(t, filepath.Join(dir, snapshotFolder, older, "state.bin"), "damaged, but not needed")
	left := filepath.Join(dir, snapshotFolder, "2-30-1.tmp")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	folder = mustOpen(t, config(dir))
	if folder.Newest == nil || folder.Newest.ID != newest || folder.Extent.LastCommand != 30 {
		t.Fatalf("%+v", folder)
	}
	if _, err := os.Stat(left); err == nil {
		t.Fatal("the unfinished snapshot is still there")
	}
	meta, reader, err := folder.Snapshots.Open(newest)
	if err != nil || meta.Index != 20 || reader.(*SnapshotReader).Meta != meta {
		t.Fatalf("%+v %v", meta, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := folder.Snapshots.Remove(newest); err != nil {
		t.Fatal(err)
	}
	if listed, err := folder.Snapshots.List(); err != nil || len(listed) != 1 {
		t.Fatalf("%v %v", listed, err)
	}
	if _, _, err := folder.Snapshots.Open(newest); err == nil {
		t.Fatal("a removed snapshot opens")
	}
	mustClose(t, folder)
}
