"""CPython's own tests of what has to do with the system."""

import xml.etree.ElementTree as ElementTree

from .harness import python, suite

SHORT = ["test_os", "test_posix", "test_tempfile", "test_fork1", "test_fileio", "test_file", "test_resource", "test_pty"]
FULL = """
test_argparse test_asynchat test_asyncio test_asyncore test_atexit test_bufio test_builtin test_bz2 test_close_range
test_cmd_line test_cmd_line_script test_codecs test_compileall test_concurrent_futures test_configparser test_contextlib
test_dbm test_devpoll test_doctest test_dup2 test_eintr test_embed test_epoll test_faulthandler test_fcntl test_file
test_file_eintr test_filecmp test_fileinput test_fileio test_fork1 test_ftplib test_gc test_getpass test_glob test_grp
test_gzip test_hashlib test_httplib test_httpservers test_imaplib test_import test_io test_ioctl test_kqueue test_largefile
test_lib2to3 test_linecache test_locale test_logging test_lzma test_mailbox test_memoryio test_mmap test_multiprocessing_fork
test_multiprocessing_forkserver test_multiprocessing_main_handling test_multiprocessing_spawn test_netrc test_nntplib
test_ntpath test_openpty test_os test_pathlib test_pdb test_pickle test_pipes test_poll test_popen test_poplib test_posix
test_posixpath test_print test_pty test_pwd test_py_compile test_queue test_random test_readline test_regrtest test_repl
test_resource test_runpy test_sched test_script_helper test_select test_selectors test_shelve test_shutil test_signal
test_site test_smtpd test_smtplib test_smtpnet test_socket test_socketserver test_sqlite3 test_ssl test_stat test_startfile
test_statistics test_subprocess test_support test_sys test_sys_settrace test_sysconfig test_syslog test_tarfile test_tempfile
test_thread test_threadedtempfile test_threading test_threading_local test_threadsignals test_time test_tools test_tracemalloc
test_tty test_unicode_file test_unittest test_univnewlines test_unix_events test_urllib test_urllib2 test_urllib2_localnet
test_userdict test_uuid test_venv test_wait3 test_wait4 test_warnings test_webbrowser test_wsgiref test_xmlrpc test_zipapp
test_zipfile test_zipfile64 test_zipimport test_zlib
""".split()


@suite("cpython", "CPython's own tests of files, processes, sockets, threads, signals", lambda short: SHORT if short else FULL, short=True)
def cpython(module, side):
    report = side.path("report.xml")
    command = [python(), "-m", "test", "--junit-xml", report, "--tempdir", side.path("tmp"), "--timeout", 400, module]
    done = side.run(command, timeout=900)
    if not report.exists():
        # A module that this version has not, or one that is skipped as a whole.
        said = "skipped" if "skipped" in done.output else "no such test" if "No module named" in done.output else "no report"
        return {"(module)": f"{done.end}, {said}"}
    results = {"(module)": done.end}
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag for child in case} & {"failure", "error", "skipped"}
        result = children.pop() if children else "skipped" if case.get("result") == "skipped" else "ok"
        results[case.get("name") or "(whole)"] = result
    return results
