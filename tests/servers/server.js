// Node's http. Says how often its server was told of an error.
const server = require('http').createServer((request, response) => response.writeHead(204).end());
server.keepAliveTimeout = 60000;
server.on('error', (error) => console.error(error.message));
server.listen(Number(process.argv[2]), '127.0.0.1', 1024);
