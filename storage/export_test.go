package storage

// SealWith seals value with a salt of the test's choice, for vectors.
func SealWith(key, params []byte, name string, value []byte, salt [32]byte) ([]byte, error) {
	m, err := newMaterial(key, params)
	if err != nil {
		return nil, err
	}
	return m.seal(name, value, &salt)
}

// SealPlain seals what is no name with a value, as no release does.
func SealPlain(key, plain []byte, salt [32]byte) ([]byte, error) {
	m, err := newMaterial(key, nil)
	if err != nil {
		return nil, err
	}
	b := m.header(&salt, len(plain))
	return m.encrypt(append(b, plain...), len(b), &salt, infoValue)
}

// FileError is the error of an operation that the file system has failed.
func FileError(doing string, err error) error { return failed(doing, err) }

// A System is what a File and a KeyFile ask for files.
type (
	System     = system
	SystemFile = file
)

// Host is the operating system.
var Host System = host{}

// NewFileOn is NewFile over another system than the operating system.
var NewFileOn = newFile

// KeyFileOn is KeyFile over another system than the operating system.
var KeyFileOn = newKeyFile
