package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

// childAttributes gives a child a process group of its own, so that Ctrl-C reaches only its parent, which ends
// everything in order, and has the kernel kill it when the parent dies, however it dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// runTied runs a command on a thread that lives as long as the child: the kernel sends the parent-death signal when the
// thread that started the child ends, not only when the process does.
func runTied(command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return command.Run()
}
