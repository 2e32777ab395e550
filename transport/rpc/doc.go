// Package rpc holds the messages and the service that front ends and nodes speak, generated from rpc.proto. It has no
// code of its own and starts no goroutine.
//
// To generate it again, with protoc, protoc-gen-go v1.36.12 and protoc-gen-connect-go v1.21.1 in the path:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//	go install connectrpc.com/connect/cmd/protoc-gen-connect-go@v1.21.1
//	go generate ./transport/rpc
package rpc

//go:generate protoc --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative,package_suffix,simple rpc.proto
