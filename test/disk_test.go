//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// diskBytes is the size of a disk of a node's own. The file that holds it takes only what is written.
	diskBytes = 4 << 30
	// longestFreeze is after how long a frozen disk thaws by itself.
	longestFreeze = 15 * time.Second
	// ioctl numbers of linux/fs.h.
	freezeFileSystem = 0xc0045877
	thawFileSystem   = 0xc0045878
)

// onDisk are a shell's commands that mount $0 at $1 and become the program that follows. They run in a mount namespace of
// their own: nothing is left of the mount when the program ends, however it ends.
var onDisk = []string{"unshare", "--mount", "sh", "-c", `mount -o loop "$0" "$1" && shift && exec "$@"`}

// canMount tells whether this machine lets the tests have disks of their own: they need to be root, outside of most
// containers.
var canMount = sync.OnceValue(func() bool {
	folder, err := os.MkdirTemp("", "dems-disk-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(folder)
	image := filepath.Join(folder, "image")
	return makeDisk(image) == nil && exec.Command(onDisk[0], append(onDisk[1:], image, folder, "true")...).Run() == nil
})

// makeDisk makes a file that holds an empty file system.
func makeDisk(image string) error {
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := file.Truncate(diskBytes); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return exec.Command("mkfs.ext4", "-q", image).Run()
}

// freeze makes every write to a node's disk wait, until thaw is called or longestFreeze has passed.
func (c *handCluster) freeze(name string) (thaw func()) {
	c.t.Helper()
	root := filepath.Join("/proc", strconv.Itoa(c.child(name).command.Process.Pid), "root")
	disk, err := os.Open(filepath.Join(root, c.dataDir, name))
	if err != nil {
		c.t.Errorf("disk of %s: %v", name, err)
		return func() {}
	}
	request := func(number uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, disk.Fd(), number, 0); errno != 0 {
			c.t.Errorf("disk of %s: ioctl %x: %v", name, number, errno)
		}
	}
	request(freezeFileSystem)
	thaw = sync.OnceFunc(func() {
		request(thawFileSystem)
		_ = disk.Close()
	})
	time.AfterFunc(longestFreeze, thaw) // a frozen file system outlives even its mount: it is not left behind
	c.t.Cleanup(thaw)
	return thaw
}

// slowDisk makes the writes of a node wait most of the time, while something else is done.
func (c *handCluster) slowDisk(name string, meanwhile func()) {
	c.t.Helper()
	done := make(chan struct{})
	var freezing sync.WaitGroup
	freezing.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for thaw := func() {}; ; {
			select {
			case <-done:
				thaw()
				return
			case <-ticker.C:
			}
			thaw()
			thaw = c.freeze(name)
		}
	})
	meanwhile()
	close(done)
	freezing.Wait()
}

// TestDiskHangs has the leader's disk hang while 16 clients write: it gives leadership up, and no request fails.
func TestDiskHangs(t *testing.T) {
	if !canMount() {
		t.Skip("a disk that hangs takes a file system that can be frozen, and this machine lets the test mount none")
	}
	c := startOnDisks(t, 3)
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(500)
	var all []figures
	for range scale(1, 5) {
		leader := c.leading()
		begin := time.Now()
		thaw := c.freeze(leader)
		c.waitLed(leader)
		t.Logf("%s: another leads after %v", leader, rounded(time.Since(begin)))
		tr.waitFor(settledAfterFailure)
		thaw()
		c.waitHealthy(30 * time.Second)
		all = append(all, tr.between(begin, time.Now()))
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	const claimed = 2 * time.Second
	expectPauses(t, "leader's disk hangs", all, claimed, claimed, claimed)
}
