// A file is wanted when all descriptors are taken, through graceful-fs; another is closed 20 ms later.
// graceful.js MODULE N: prints N times from the close to the file being open, milliseconds.
const fs = require(process.argv[2])
const open = []
try { for (;;) open.push(fs.openSync('/dev/null', 'r')) } catch (e) { if (e.code !== 'EMFILE') throw e }
const one = left => {
  if (!left) process.exit(0)
  let closed
  fs.open('/dev/null', 'r', (error, fd) => {
    if (error) throw error
    console.log(Number(process.hrtime.bigint() - closed) / 1e6)
    open.push(fd)
    one(left - 1)
  })
  setTimeout(() => { closed = process.hrtime.bigint(); fs.close(open.pop(), () => {}) }, 20)
}
one(Number(process.argv[3]))
