//go:build tools

// Package runc pins the program that starts the containers of the development cluster.
package runc

import _ "github.com/opencontainers/runc"
