package storage

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// TestDamagedLog flips bits in raft.db and cuts it. Either the folder is refused with an error that names the file, or
// nothing that counts was hit and everything is there.
func TestDamagedLog(t *testing.T) {
	const last = 60
	image := t.TempDir()
	folder := mustOpen(t, config(image))
	for first := uint64(1); first < last; first += 6 {
		fill(t, folder, first, min(first+5, last))
	}
	mustClose(t, folder)
	data, err := os.ReadFile(filepath.Join(image, logFile))
	if err != nil {
		t.Fatal(err)
	}
	marker, err := os.ReadFile(filepath.Join(image, markerFile))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for round := range 150 {
		dir := t.TempDir()
		write(t, filepath.Join(dir, markerFile), string(marker))
		damaged := append([]byte(nil), data...)
		switch {
		case round < 100:
			damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
		case round < 125:
			damaged = damaged[:1+random.IntN(len(damaged)-1)]
		default: // a page that was never written
			page := random.IntN(len(damaged) / 4096)
			clear(damaged[page*4096 : (page+1)*4096])
		}
		write(t, filepath.Join(dir, logFile), string(damaged))
		folder, err := Open(t.Context(), config(dir))
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), filepath.Join(dir, logFile)) {
				t.Fatalf("round %d: %v", round, err)
			}
			continue
		}
		if folder.Extent.Last != last || folder.Extent.First != 1 || folder.Extent.Term != 2 || !folder.Extent.voted {
			t.Fatalf("round %d: opened with %+v", round, folder.Extent)
		}
		for index := uint64(2); index <= last; index++ {
			var entry raft.Log
			if err := folder.Log.GetLog(index, &entry); err != nil || string(entry.Data) != string(command(index).Data) {
				t.Fatalf("round %d, index %d: %v", round, index, err)
			}
		}
		mustClose(t, folder)
	}
	if refused < 40 {
		t.Fatalf("only %d damaged files were refused", refused)
	}
}

// TestCommandThatCannotBeDecoded has an entry whose checksum is right and whose content is not.
func TestCommandThatCannotBeDecoded(t *testing.T) {
	dir := t.TempDir()
	folder := mustOpen(t, config(dir))
	fill(t, folder, 1, 3)
	if err := folder.Log.StoreLog(&raft.Log{Index: 4, Term: 2, Type: raft.LogCommand, Data: []byte("nonsense")}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	expect(t, config(dir), "corrupt at index 4")
}

// ended runs do on a goroutine and tells whether it was ended before do returned.
func ended(do func()) bool {
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
		returned = true
	}()
	<-done
	return !returned
}

func TestFailedWritesEndTheGoroutine(t *testing.T) {
	for name, do := range map[string]func(*Log){
		"StoreLog":    func(l *Log) { l.StoreLog(command(9)) },
		"StoreLogs":   func(l *Log) { l.StoreLogs([]*raft.Log{command(9)}) },
		"DeleteRange": func(l *Log) { l.DeleteRange(1, 2) },
		"Set":         func(l *Log) { l.Set([]byte(keyVote), []byte("n2")) },
		"SetUint64":   func(l *Log) { l.SetUint64([]byte(keyTerm), 9) },
		"GetLog":      func(l *Log) { l.GetLog(1, &raft.Log{}) },
	} {
		t.Run(name, func(t *testing.T) {
			var reported failures
			broken := config(t.TempDir())
			broken.Fail = reported.fail
			folder := mustOpen(t, broken)
			fill(t, folder, 1, 3)
			mustClose(t, folder) // every access fails from now on
			if !ended(func() { do(folder.Log) }) {
				t.Fatal("the goroutine goes on")
			}
			if len(reported.all) != 1 || !strings.Contains(reported.all[0].Error(), broken.Dir) {
				t.Fatalf("reported %v", reported.all)
			}
		})
	}
}

func TestEntryDamagedLater(t *testing.T) {
	var reported failures
	broken := config(t.TempDir())
	broken.Fail = reported.fail
	folder := mustOpen(t, broken)
	fill(t, folder, 1, 3)
	bad := command(2)
	bad.Extensions = []byte{1, 2, 3, 4}
	if err := folder.Log.bolt.StoreLog(bad); err != nil { // past the checksum
		t.Fatal(err)
	}
	if err := folder.Log.bolt.Set([]byte(keyVote), []byte("n1 without a checksum")); err != nil {
		t.Fatal(err)
	}
	if !ended(func() { folder.Log.GetLog(2, &raft.Log{}) }) || !ended(func() { folder.Log.Get([]byte(keyVote)) }) {
		t.Fatal("the goroutine goes on")
	}
	if len(reported.all) != 2 || !strings.Contains(reported.all[0].Error(), "corrupt at index 2") ||
		!strings.Contains(reported.all[1].Error(), "corrupt") {
		t.Fatalf("reported %v", reported.all)
	}
	mustClose(t, folder)
}

func TestSnapshotWritesThatFail(t *testing.T) {
	var reported failures
	broken := config(t.TempDir())
	broken.Fail = reported.fail
	folder := mustOpen(t, broken)
	fill(t, folder, 1, 3)
	_, transport := raft.NewInmemTransport("n1")
	sink, err := folder.Snapshots.Create(1, 3, 2, raft.Configuration{}, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(broken.Dir, snapshotFolder))
	if err := sink.Close(); err == nil {
		t.Fatal("a snapshot without a folder was kept")
	}
	write(t, filepath.Join(broken.Dir, snapshotFolder), "")
	if _, err := folder.Snapshots.Create(1, 3, 2, raft.Configuration{}, 1, transport); err == nil {
		t.Fatal("a snapshot in a file")
	}
	if len(reported.all) != 2 || !strings.Contains(reported.all[0].Error(), "write snapshot") {
		t.Fatalf("reported %v", reported.all)
	}
	mustClose(t, folder)
}

func TestWriteErrorTellsWhatToDo(t *testing.T) {
	full := WriteError("raft log", "/data", &os.PathError{Op: "write", Path: "/data/raft.db", Err: syscall.ENOSPC})
	if full.Error() != "write raft log: no space left on device (/data): free space and start the node again" {
		t.Error(full)
	}
	if other := WriteError("raft log", "/data", errors.New("broken")); other.Error() !=
		"write raft log: broken (/data): check the disk and start the node again" {
		t.Error(other)
	}
}
