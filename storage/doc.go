// Package storage keeps sessions: in memory, or in sealed files.
package storage
