from . import Logger, fed, made

SOURCE = """
#include <fstream>
#include <iostream>
#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
int main(int, char **args)
{
    std::string how = args[1], line;
    auto log = how == "basic" ? spdlog::basic_logger_mt("app", args[2])
                               : spdlog::basic_logger_mt<spdlog::async_factory>("app", args[2]);
    log->flush_on(spdlog::level::info);
    while (std::getline(std::cin, line)) {
        if (!line.empty() && line[0] == ':')
            std::ofstream(line.substr(1)).put('x');
        else
            log->info(line);
    }
    spdlog::shutdown();
}
"""
NEEDS = ("g++", "/usr/include/spdlog")


def compiled(folder):
    (folder / "logs.cc").write_text(SOURCE)
    # Header-only, as most build it.
    made("g++", "-O1", "-pthread", "-o", "FOLDER/logs", "FOLDER/logs.cc", "-lfmt")(folder)


def spdlog(how, pause=0):
    return lambda outage: fed(outage, [outage.data / "logs", how, outage.log], pause=pause)


LOGGERS = [
    Logger("spdlog, a file", "a message of basic_logger_mt", NEEDS, spdlog("basic"), compiled),
    Logger("spdlog, asynchronous", "a message that a second thread writes", NEEDS, spdlog("async", 0.1), compiled),
]
