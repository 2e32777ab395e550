//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

// childAttributes gives a child a process group of its own, so that Ctrl-C reaches only its parent, which ends
// everything in order. Only Linux ends children whose parent was killed.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func runTied(command *exec.Cmd) error { return command.Run() }
